"""Requests in a worker while their rows are on their way."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from models.batch_cost import BatchCost
from service.messages import Answer, Predict, Timings, Wish
from service.worker.fair_queue import DEFAULT, level_of
from service.worker.servable import Servable

Result: TypeAlias = bytes | Sequence[bytes]  # a prediction in JSON, or a row's part of each tensor, or its embedding


@dataclass(kw_only=True, eq=False)
class PendingRequest:
    """A request that is not answered yet.

    Attributes:
        key: name and number of the version.
        deadline: by the monotonic clock, in seconds.
        isolated: each of its rows is computed alone.
        results: one a row, filled in as rows are computed.
        truncated: rows of which only a part was read.
        tokens: that were read of all texts.
        missing: rows that are not computed yet.
        level: of its priority.
        asker: itself, or the list that it is a part of.
        log_fields: see `service.messages.Predict`.
        done: answered, failed or cancelled; whatever rows are left are not computed.
    """

    id: int
    version: Servable
    key: tuple[str, int]
    deadline: float
    wish: Wish
    isolated: bool
    results: list[Any]
    missing: int
    level: int = DEFAULT
    asker: Hashable = None
    log_fields: Mapping[str, str] = field(default_factory=dict)
    truncated: list[int] = field(default_factory=list)
    tokens: int = 0
    decode_seconds: float = 0.0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    done: bool = False

    @property
    def timings(self) -> Timings:
        return Timings(decode=self.decode_seconds, queue=self.queue_seconds, compute=self.compute_seconds)

    @property
    def abandoned(self) -> bool:
        """Nobody waits for the answer, or it would come too late."""
        return self.done or time.monotonic() > self.deadline

    def answer(self) -> tuple[Answer, bytes]:
        """Its answer, once nothing is missing, and the payload."""
        if self.wish.embedding is None and not self.wish.outputs:
            return Answer(id=self.id, timings=self.timings), b"[%s]" % b",".join(self.results)
        tensors = [b"".join(parts) for parts in zip(*self.results, strict=True)]
        answer = Answer(
            id=self.id,
            timings=self.timings,
            sizes=[len(tensor) for tensor in tensors],
            truncated=sorted(self.truncated),
            tokens=self.tokens,
        )
        return answer, b"".join(tensors)


@dataclass(kw_only=True, eq=False)
class PendingRow:
    """One row of a request, ready for the device.

    Attributes:
        row: what `Servable.prepare` made of it; of an isolated request, its bytes.
        group, length, rows: see `service.worker.scheduler.Waiting`.
        tokens: that are read of it.
        ready_at: by the monotonic clock, seconds.
    """

    request: PendingRequest
    index: int
    row: Any
    group: Hashable
    length: int = 1
    rows: int = 1
    tokens: int = 0
    ready_at: float = field(default_factory=time.monotonic)

    @property
    def truncated(self) -> bool:
        """Only a part of it was read."""
        return bool(self.request.wish.truncate and self.row.truncated)

    @property
    def abandoned(self) -> bool:
        return self.request.abandoned

    @property
    def flow(self) -> Hashable:
        return id(self.request.version)

    @property
    def asker(self) -> Hashable:
        return self.request.asker

    @property
    def level(self) -> int:
        return self.request.level

    @property
    def cost(self) -> BatchCost:
        return self.request.version.cost

    @property
    def share(self) -> float:
        return 1.0 if self.request.isolated else 1 / self.request.version.streams


class PendingRequests:
    """All requests that a worker has not answered yet; each ends once. Safe to use from several threads."""

    def __init__(self) -> None:
        self._requests: dict[int, PendingRequest] = {}
        self._lock = threading.Lock()  # guards every request too

    def add(self, message: Predict, version: Servable) -> PendingRequest:
        """A request that has arrived."""
        count = len(message.sizes)
        request = PendingRequest(
            id=message.id,
            version=version,
            key=(message.name, message.number),
            deadline=message.deadline,
            wish=message.wish,
            isolated=message.isolated,
            results=[None] * count,
            missing=count,
            level=level_of(message.priority),
            asker=("list", message.list_id) if message.list_id else message.id,
            log_fields=message.log_fields,
        )
        with self._lock:
            self._requests[request.id] = request
        return request

    def cancel(self, number: int) -> None:
        """Its client is gone, or its time is up; it may have ended already."""
        with self._lock:
            request = self._requests.pop(number, None)
            if request is not None:
                request.done = True

    def end(self, request: PendingRequest) -> bool:
        """Whether it is this that ends it; it had not ended before."""
        with self._lock:
            return self._end(request)

    def complete(
        self, rows: Sequence[PendingRow], results: Sequence[Result], *, started: float, seconds: float
    ) -> Sequence[PendingRequest]:
        """Rows that were computed, one result for each.

        Args:
            started: when their batch was begun, by the monotonic clock, seconds.
            seconds: that it took.

        Returns:
            The requests that end with them.
        """
        complete = []
        with self._lock:
            for row, result in zip(rows, results, strict=True):
                request = row.request
                request.results[row.index] = result
                if row.truncated:
                    request.truncated.append(row.index)
                request.tokens += row.tokens
                request.missing -= 1
                request.queue_seconds = max(request.queue_seconds, started - row.ready_at)
                request.compute_seconds = max(request.compute_seconds, seconds)
                if not request.missing and self._end(request):
                    complete.append(request)
        return complete

    def _end(self, request: PendingRequest) -> bool:
        if request.done:
            return False
        request.done = True
        del self._requests[request.id]
        return True
