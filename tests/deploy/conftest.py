"""nginx in front of a real server, or of one that records what reaches it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.measured import labels_of_a_server
from tests.deploy.promql import Labels
from tests.deploy.proxy import Proxy
from tests.deploy.upstream import Stage, Upstream
from tests.server_process import ServerProcess

OLDEST = (1, 21, 1)


@pytest.fixture(scope="session")
def nginx() -> str:
    """The program; Debian has it where only root looks."""
    program = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if program is None:
        pytest.skip("needs the program nginx (apt-get install nginx)")
    found = re.search(r"/(\d+)\.(\d+)\.(\d+)", subprocess.run([program, "-v"], capture_output=True, text=True).stderr)
    if found is None or tuple(map(int, found.groups())) < OLDEST:
        pytest.skip("needs nginx 1.21.1 or newer")
    return program


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The program."""
    return of_debian("prometheus")


@pytest.fixture(scope="session")
def promtool() -> str:
    """What checks Prometheus' files and tests its rules."""
    return of_debian("promtool")


def of_debian(name: str) -> str:
    unpacked = Path(__file__).parents[2] / "build" / "prometheus" / "usr" / "bin"
    program = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), str(unpacked)]))
    if program is None:
        pytest.skip(f"needs the program {name} (apt-get install prometheus; .ci/run unpacks it into build/prometheus)")
    return program


@pytest.fixture(scope="session")
def measured(models_on_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Labels]:
    """The labels of each metric that a real server has once it has answered, refused and failed, on a machine with GPUs."""
    return labels_of_a_server(models_on_disk, tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="module")
def proxy(nginx: str, server: ServerProcess) -> Iterator[Proxy]:
    """nginx in front of the real server."""
    process = Proxy(program=nginx, upstreams=[server.port])
    yield process
    process.destroy()


@pytest.fixture
def stage(nginx: str) -> Iterator[Stage]:
    """``stage(servers=1, changes={}, tls=False)``: an nginx of its own, and recording servers behind it."""
    with ExitStack() as stack:

        def build(servers: int = 1, **options: Any) -> tuple[Proxy, list[Upstream]]:
            upstreams = [Upstream() for _ in range(servers)]
            for upstream in upstreams:
                stack.callback(upstream.close)
            proxy = Proxy(program=nginx, upstreams=[upstream.port for upstream in upstreams], **options)
            stack.callback(proxy.destroy)
            return proxy, upstreams

        yield build
