"""Batches that fail are computed in parts."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.batch_cost import UNMEASURED
from service.flight_record import FlightRecord
from service.messages import Answer, Form, Predict
from service.worker.computation import Computation
from service.worker.pending import PendingRequests, PendingRow
from service.worker.scheduler import Scheduler
from service.worker.servable import Prepared

ROWS = 8


class Activation:
    """What a batch allocates on the device."""


class Device:
    """A servable that does what a test says; its answer to a row is the row."""

    backbone = "echo"
    streams = 1
    cost = UNMEASURED
    serving: Any = None

    def __init__(self, before: Callable[[Sequence[PendingRow]], None]) -> None:
        self.batches: list[list[Any]] = []
        self._before = before

    def prepare(self, item: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
        return Prepared(item, "echo")

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Mapping[str, object]]:
        self.batches.append([waiting.row for waiting in batch])
        self._before(batch)
        return [{"row": waiting.row} for waiting in batch]


class Stage:
    """A computation with requests of one row each."""

    def __init__(self, record: FlightRecord) -> None:
        self.requests = PendingRequests()
        self.failed: list[tuple[int, str]] = []
        self.scheduler: Scheduler[PendingRow] = Scheduler(max_batch_rows=ROWS)
        self.computation = Computation(
            self.requests, self.scheduler, record, lambda request, code, _: self.failed.append((request.id, code))
        )

    def compute(self, device: Device) -> list[int]:
        """The requests that are answered of a batch of rows 0 to 7, in order."""
        deadline = time.monotonic() + 60
        batch = []
        for number in range(ROWS):
            message = Predict(id=number, name="echo", number=1 + number % 3, sizes=[1], deadline=deadline)
            request = self.requests.add(message, device)
            batch.append(PendingRow(request=request, index=0, row=number, group="echo"))
        found = self.computation.compute(0, batch)
        return [message.id for message, _ in found if isinstance(message, Answer)]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(FlightRecord(tmp_path / "flight", decode_threads=1, compute_threads=1, max_batch_rows=ROWS))


@pytest.mark.parametrize("error", [MemoryError, ValueError])
def test_what_a_failed_batch_had_allocated_is_free_before_its_parts_are_computed(
    stage: Stage, error: type[Exception]
) -> None:
    """Else the parts would have less room than the batch had."""
    allocated: list[weakref.ref[Activation]] = []

    def fail(batch: Sequence[PendingRow]) -> None:
        assert all(activation() is None for activation in allocated)
        activation = Activation()
        allocated.append(weakref.ref(activation))
        if len(batch) > 1:
            raise error

    device = Device(fail)
    assert stage.compute(device) == list(range(ROWS))
    assert len(device.batches) == (15 if error is MemoryError else 9)
    assert not stage.failed


@pytest.mark.parametrize("error", [MemoryError, ValueError])
def test_parts_are_not_computed_for_nobody(stage: Stage, error: type[Exception]) -> None:
    """Clients that hang up while a batch is computed in parts, which takes longer than it should have."""

    def fail(batch: Sequence[PendingRow]) -> None:
        if len(batch) == ROWS:
            stage.requests.cancel(0)
            raise error
        if [waiting.row for waiting in batch] == [1]:
            stage.requests.cancel(2)
            raise error
        if len(batch) > 1 and error is MemoryError:
            raise error

    device = Device(fail)
    assert stage.compute(device) == [3, 4, 5, 6, 7]
    assert [number for number, _ in stage.failed] == [1]
    assert stage.scheduler.take_dropped() == 2
    computed = [row for batch in device.batches[1:] for row in batch if len(batch) == 1]
    assert computed == [1, 3, 4, 5, 6, 7]


def test_a_batch_says_whose_rows_it_had(stage: Stage) -> None:
    def fail(batch: Sequence[PendingRow]) -> None:
        if len(batch) == ROWS:
            raise MemoryError

    stage.compute(Device(fail))
    found = [(batch.rows, batch.versions) for batch in stage.computation.take_batches()]
    halves = [("echo", 1, 2), ("echo", 2, 1), ("echo", 3, 1)], [("echo", 2, 2), ("echo", 3, 1), ("echo", 1, 1)]
    assert found == [(4, halves[0]), (4, halves[1])]
