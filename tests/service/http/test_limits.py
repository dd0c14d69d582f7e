from __future__ import annotations

import json
import subprocess
import sys

import pytest

from service.http.limits import RESERVED_FILES, ConnectionLimits


def test_the_defaults_are_those_of_the_security_page() -> None:
    limits = ConnectionLimits()
    assert limits.max_connections == 1024
    assert (limits.max_header_bytes, limits.max_headers, limits.max_url_bytes) == (32 * 1024, 100, 8 * 1024)
    assert (limits.max_chunks, limits.header_timeout_seconds) == (65_536, 10)
    assert (limits.body_timeout_seconds, limits.body_bytes_per_second) == (30, 1024)


FIT = """
import json, resource, sys
from service.http.limits import ConnectionLimits, fit_to_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, tuple(json.loads(sys.argv[1])))
print(json.dumps([fit_to_open_files(ConnectionLimits()).max_connections, *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""
ENOUGH = 1024 + RESERVED_FILES


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "soft_after"),
    [
        (64, 256, 256 - RESERVED_FILES, 256),  # as far as it goes
        (256, 256, 256 - RESERVED_FILES, 256),
        (1024, 10_000, 1024, ENOUGH),  # as far as it is needed
        (ENOUGH, 10_000, 1024, ENOUGH),
        (9000, 10_000, 1024, 9000),
        (64, 100, 1, 100),
    ],
)
def test_l18_no_more_connections_than_open_files(soft: int, hard: int, connections: int, soft_after: int) -> None:
    command = [sys.executable, "-c", FIT, json.dumps([soft, hard])]
    answer = subprocess.run(command, check=True, capture_output=True)  # another process: a hard limit never rises again
    assert json.loads(answer.stdout) == [connections, soft_after, hard]
