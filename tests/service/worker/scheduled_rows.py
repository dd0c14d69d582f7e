"""Rows that are nothing but what the scheduler looks at."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from models.batch_cost import BatchCost
from service.worker.fair_queue import DEFAULT
from service.worker.scheduler import Scheduler

FLAT = BatchCost(per_batch=1.0, per_row=0.0)  # whatever is in a batch
LINEAR = BatchCost(per_batch=7.0, per_row=0.0, per_token=1.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    number: int
    group: str
    abandoned: bool = False
    share: float = 0.0  # of the device: it never fills it
    model: str = ""
    request: Hashable = None
    level: int = DEFAULT
    length: int = 1
    rows: int = 1
    cost: BatchCost = FLAT

    @property
    def asker(self) -> Hashable:
        return self.request

    @property
    def flow(self) -> str:
        return self.model or self.group


@dataclass(kw_only=True, eq=False)
class Caller:
    """Who waits for rows until it is gone."""

    gone: bool = False


@dataclass(frozen=True)
class RowOf:
    """A row that is abandoned when its caller is gone."""

    number: int
    group: str
    caller: Caller
    share: float = 0.0
    flow: str = "model"
    request: Hashable = None
    level: int = DEFAULT
    length: int = 1
    rows: int = 1
    cost: BatchCost = FLAT

    @property
    def asker(self) -> Hashable:
        return self.request

    @property
    def abandoned(self) -> bool:
        return self.caller.gone


def scheduler(*rows: Row, max_batch_rows: int = 32) -> Scheduler[Row]:
    made: Scheduler[Row] = Scheduler(max_batch_rows=max_batch_rows)
    for row in rows:
        made.put(row)
    return made


def take_all(made: Scheduler[Row]) -> list[Sequence[Row]]:
    """Every batch until nothing waits, without waiting for more where the last rows are abandoned."""
    batches = []
    while made.waiting:
        with made._changed:
            batches.append(made._next_batch())
    return [batch for batch in batches if batch]


def rows(groups: str) -> list[Row]:
    return [Row(number=number, group=group) for number, group in enumerate(groups)]
