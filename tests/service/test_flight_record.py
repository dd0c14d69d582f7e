from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.flight_record import FlightRecord

THREADS, LANES, MOST_ROWS = 3, 2, 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flight-1"


@pytest.fixture
def record(path: Path) -> FlightRecord:
    return FlightRecord(path, decode_threads=THREADS, compute_threads=LANES, max_batch_rows=MOST_ROWS)


def test_a_new_record_is_empty_and_private(record: FlightRecord, path: Path) -> None:
    assert FlightRecord.read(path) == set()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rows_are_in_it_while_they_are_in_hand(record: FlightRecord, path: Path) -> None:
    record.decoding(0, 0, 0)  # the very first request and row, which must not look like nothing
    record.decoding(2, 7, 1)
    record.computing([(5, 0), (5, 1), (6, 0)])
    assert FlightRecord.read(path) == {(0, 0), (7, 1), (5, 0), (5, 1), (6, 0)}
    record.decoded(0)
    assert FlightRecord.read(path) == {(7, 1), (5, 0), (5, 1), (6, 0)}
    record.computed()
    assert FlightRecord.read(path) == {(7, 1)}
    record.decoded(2)
    assert FlightRecord.read(path) == set()


def test_it_shows_whether_anything_was_ever_computed(record: FlightRecord, path: Path) -> None:
    assert not FlightRecord.has_answered(path.with_name("none"))
    record.decoding(0, 0, 1)
    record.computing([(0, 1)])
    assert not FlightRecord.has_answered(path)
    record.computed()
    assert FlightRecord.has_answered(path)
    assert FlightRecord.read(path) == {(0, 1)}


batches = st.lists(
    st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 2**31)), min_size=1, max_size=MOST_ROWS), min_size=1
)


@given(batches)
def test_a_batch_leaves_nothing_of_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[list[tuple[int, int]]]
) -> None:
    path = tmp_path_factory.mktemp("flight") / "flight-1"
    record = FlightRecord(path, decode_threads=THREADS, compute_threads=LANES, max_batch_rows=MOST_ROWS)
    for batch in drawn:  # one within the other, as when a batch that failed is computed in parts
        record.computing(batch)
        assert FlightRecord.read(path) == set(batch)
    record.computed()
    assert FlightRecord.read(path) == set()


def test_it_says_whether_the_worker_was_ever_of_use(record: FlightRecord, path: Path) -> None:
    record.decoding(0, 1, 0)
    record.decoded(0)
    record.computing([(1, 0)])
    assert not FlightRecord.has_answered(path)
    record.computed()
    assert FlightRecord.has_answered(path)
    assert FlightRecord.read(path) == set()
    record.computing([(2, 0)])
    assert FlightRecord.has_answered(path)
    assert FlightRecord.read(path) == {(2, 0)}


def test_each_compute_thread_has_its_own_places(record: FlightRecord, path: Path) -> None:
    record.computing([(1, row) for row in range(MOST_ROWS)], 0)
    record.computing([(2, 0), (3, 0)], 1)
    assert FlightRecord.read(path) == {*((1, row) for row in range(MOST_ROWS)), (2, 0), (3, 0)}
    record.computed(0)
    assert FlightRecord.read(path) == {(2, 0), (3, 0)}
    record.computing([(4, 0)], 1)
    assert FlightRecord.read(path) == {(4, 0)}
    record.computed(1)
    assert FlightRecord.read(path) == set()


def test_it_knows_for_how_long_hands_are_full(record: FlightRecord) -> None:
    assert record.busy_seconds() == 0
    record.decoding(2, 1, 0)
    record.computing([(2, 0)], 1)
    first = record.busy_seconds()
    record.computed(1)
    assert record.busy_seconds() >= first
    record.decoded(2)
    assert record.busy_seconds() == 0


def test_a_record_is_never_shared(record: FlightRecord, path: Path) -> None:
    with pytest.raises(FileExistsError):
        FlightRecord(path, decode_threads=1, compute_threads=1, max_batch_rows=1)


def test_a_worker_on_a_full_disk_works_without_a_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    record = FlightRecord(path, decode_threads=1, compute_threads=1, max_batch_rows=1)
    record.decoding(0, 1, 2)
    record.computing([(1, 2)])
    assert FlightRecord.read(path) == set()


def test_the_file_of_a_record_has_its_blocks_before_they_are_written_to(record: FlightRecord, path: Path) -> None:
    assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_who_left_no_record_had_nothing_in_hand(path: Path) -> None:
    assert FlightRecord.read(path) == set()
    assert not FlightRecord.has_answered(path)


def test_a_record_that_was_just_being_made_is_read_too(path: Path) -> None:
    path.touch()
    assert FlightRecord.read(path) == set()
    assert not FlightRecord.has_answered(path)


KILLED = """
import os, signal, sys
from pathlib import Path
from service.flight_record import FlightRecord

record = FlightRecord(Path(sys.argv[1]), decode_threads=2, compute_threads=1, max_batch_rows=2)
record.decoding(1, 41, 2)
record.computing([(42, 3)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_record_outlives_its_process_however_that_ends(path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, os.fspath(path)])
    assert ended.returncode == -signal.SIGKILL
    assert FlightRecord.read(path) == {(41, 2), (42, 3)}
