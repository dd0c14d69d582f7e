"""Requests in a worker while their rows are on their way."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.batch_cost import BatchCost
from service.messages import Predict, Timings
from service.worker.fair_queue import DEFAULT, level_of
from service.worker.servable import Servable


@dataclass(kw_only=True, eq=False)
class PendingRequest:
    """A request that is not answered yet.

    Attributes:
        key: name and number of the version.
        deadline: by the monotonic clock, in seconds.
        isolated: each of its rows is computed alone.
        predictions: one a row, in JSON, filled in as rows are computed.
        missing: rows that are not computed yet.
        level: of its priority.
        done: answered, failed or cancelled; whatever rows are left are not computed.
    """

    id: int
    version: Servable
    key: tuple[str, int]
    deadline: float
    top_k: int | None
    truncate: bool
    isolated: bool
    predictions: list[bytes]
    missing: int
    level: int = DEFAULT
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

    def answer(self) -> bytes:
        """Its predictions as a JSON array."""
        return b"[%s]" % b",".join(self.predictions)


@dataclass(kw_only=True, eq=False)
class PendingRow:
    """One row of a request, ready for the device.

    Attributes:
        row: what `Servable.prepare` made of it; of an isolated request, its bytes.
        group, length, rows: see `service.worker.scheduler.Waiting`.
        ready_at: by the monotonic clock, seconds.
    """

    request: PendingRequest
    index: int
    row: Any
    group: Hashable
    length: int = 1
    rows: int = 1
    ready_at: float = field(default_factory=time.monotonic)

    @property
    def abandoned(self) -> bool:
        return self.request.abandoned

    @property
    def flow(self) -> Hashable:
        return id(self.request.version)

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
            top_k=message.top_k,
            truncate=message.truncate,
            isolated=message.isolated,
            predictions=[b""] * count,
            missing=count,
            level=level_of(message.priority),
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
        self, rows: Sequence[PendingRow], predictions: Sequence[bytes], *, started: float, seconds: float
    ) -> Sequence[PendingRequest]:
        """Rows that were computed, one prediction for each.

        Args:
            started: when their batch was begun, by the monotonic clock, seconds.
            seconds: that it took.

        Returns:
            The requests that end with them.
        """
        complete = []
        with self._lock:
            for row, prediction in zip(rows, predictions, strict=True):
                request = row.request
                request.predictions[row.index] = prediction
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
