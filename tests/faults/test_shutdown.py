from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import get_args

import pytest

from tests.faults.figure import check
from tests.faults.shutdown import Trouble, may_be_first_process, sigterm_early, sigterm_under_load, troubled_end

SLACK = 5.0  # the machine that runs tests does other work too

first_process = pytest.mark.skipif(not may_be_first_process(), reason="needs the right to unshare --pid")


@pytest.mark.parametrize("as_first_process", [False, pytest.param(True, marks=first_process)])
def test_g3_sigterm_under_load(as_first_process: bool) -> None:
    check(sigterm_under_load(cycles=1, as_first_process=as_first_process, slack=SLACK))


@pytest.mark.parametrize("as_first_process", [False, pytest.param(True, marks=first_process)])
def test_l09_sigterm_at_the_start(as_first_process: bool) -> None:
    check(sigterm_early(delays=(0.1, 0.6), as_first_process=as_first_process, slack=SLACK))


def test_l08_troubles_while_it_ends() -> None:
    """All at once: most of it is waiting."""
    with ThreadPoolExecutor() as threads:
        for figures in threads.map(partial(troubled_end, slack=SLACK), get_args(Trouble)):
            check(figures)
