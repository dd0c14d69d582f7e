from __future__ import annotations

import pytest

from tests.faults.figure import check
from tests.faults.memory import bombs, chunks, image_bomb, malformed_requests, mixed_requests


def test_g10_nothing_remains_of_requests() -> None:
    check(mixed_requests())


def test_g10_a_server_that_leaks_is_seen() -> None:
    figures = mixed_requests(requests=10_000, leak=2000)
    with pytest.raises(AssertionError, match="MISS G10 growth of memory"):
        check(figures)
    assert {figure.name for figure in figures if not figure.holds} <= {
        "growth of memory",
        "chance of such steps without growth",
    }


def test_g11_nothing_remains_of_chunks() -> None:
    check(chunks(requests=20))


def test_g11_nothing_remains_of_malformed_requests() -> None:
    check(malformed_requests(each=100))


def test_g12_bombs() -> None:
    check(bombs())


def test_g12_a_picture_of_two_gigapixels() -> None:
    check(image_bomb())
