from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.cores import available_cores

CORES = len(os.sched_getaffinity(0))


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(64)))


def test_without_a_container_it_is_what_the_process_may_run_on(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == CORES


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("written", "cores"),
    [
        ("max 100000", 64),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("9900000 100000", 64),
        ("", 64),
        ("what is this", 64),
        ("1 0", 64),
    ],
)
def test_a_quota_of_a_container(tmp_path: Path, written: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(written + "\n")
    assert available_cores(tmp_path) == cores


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(("quota", "cores"), [("-1", 64), ("400000", 4)])
def test_a_quota_of_the_first_version_of_control_groups(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert available_cores(tmp_path) == cores
