"""A request in a worker while its rows are on their way."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.messages import Timings
from service.servable import Servable


@dataclass(kw_only=True, eq=False)
class PendingRequest:
    """A request that is not answered yet.

    Attributes:
        deadline: by the monotonic clock, in seconds.
        isolated: each of its rows is computed alone.
        predictions: one a row, filled in as rows are computed.
        missing: rows that are not computed yet.
        done: answered, failed or cancelled; whatever rows are left are not computed.
    """

    id: int
    version: Servable
    deadline: float
    top_k: int | None
    truncate: bool
    isolated: bool
    predictions: list[Mapping[str, object] | None]
    missing: int
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


@dataclass(kw_only=True, eq=False)
class PendingRow:
    """One row of a request, ready for the device.

    Attributes:
        row: what `Servable.prepare` made of it.
        group: see `service.scheduler.Waiting`.
        ready_at: by the monotonic clock, seconds.
    """

    request: PendingRequest
    index: int
    row: Any
    group: Hashable
    ready_at: float = field(default_factory=time.monotonic)

    @property
    def abandoned(self) -> bool:
        return self.request.abandoned
