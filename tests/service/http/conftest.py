"""A server to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.wire import PATIENT, WireServer, running


@pytest.fixture(scope="module")
def site() -> Iterator[WireServer]:
    """With the usual limits."""
    with running(PATIENT) as server:
        yield server
