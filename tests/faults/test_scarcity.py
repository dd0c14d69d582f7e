from __future__ import annotations

import pytest

from tests.faults.figure import check
from tests.faults.pids_group import PidsGroup
from tests.faults.scarcity import few_open_files, few_processes, little_memory, no_more_processes

SLACK = 5.0  # the machine that runs tests does other work too

needs_pids_group = pytest.mark.skipif(not PidsGroup.is_available(), reason="needs the pids controller of cgroups")


def test_l18_few_open_files() -> None:
    check(few_open_files(rounds=2))


def test_l18_little_memory() -> None:
    check(little_memory(mebibytes=(90, 500), slack=SLACK))


@needs_pids_group
def test_l18_few_processes() -> None:
    check(few_processes(limits=(6, 20), slack=SLACK))


@needs_pids_group
def test_l18_no_process_can_be_started_when_a_worker_dies() -> None:
    check(no_more_processes(seconds=1.0, slack=SLACK))
