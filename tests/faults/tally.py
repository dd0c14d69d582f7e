"""What became of the requests of a load: how many were answered how, and when."""

from __future__ import annotations

import base64
import math
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

# Ends of a request other than a status, kept in the same column.
LOST, WRONG, HUNG_UP = 0, 1, 2

GIVEN_UP = (
    "worker_lost",
    "out_of_memory",
    "device_failed",
    "engine_unavailable",
)  # 503s to what was admitted; the server counts them as failed
LATE_SECONDS = 0.01
MOST_INCIDENTS = 1000


class Incident(NamedTuple):
    """A request that did not get its answer.

    Attributes:
        what: ``wrong``, or why it was lost.
        request_id: as it was sent; the server's log has it if the server read the request.
        at: ``time.monotonic()``.
        detail: the start of what did arrive.
    """

    what: str
    request_id: str
    at: float
    detail: str


@dataclass(kw_only=True)
class Tally:
    """Every request that was sent, and its one end. Times are ``time.monotonic()``, which processes share.

    Attributes:
        sent: requests given to a connection.
        unsent: what came to nothing before a byte was sent, by reason: ``refused`` (nothing listens), ``connect timeout``,
            another error of connecting by its name in ``errno``, ``no connection`` (all were busy to the very end).
            In a closed loop these are tries to connect; in an open loop each is one request.
        losses: requests without a whole answer, by reason: ``reset`` (the connection ended before the first byte of an
            answer), ``cut short`` (it ended amid the answer), ``unanswered`` (it stayed open, but patience ended),
            ``not understood`` (no HTTP/1.1 answer with a Content-Length).
        codes: of the errors in problem bodies.
        without_retry_after: 429s and 503s without a whole number of seconds from 1 as ``Retry-After``.
        without_request_id: errors that carry no ``X-Request-Id`` at all; with a different one they are wrong.
        unasked: times that a server sent bytes that no request had asked for.
        incidents: the first of what was lost or wrong.
        first: when the first request was sent.
        last: when the last one ended.
        ends: how each request ended: its status, or LOST, WRONG or HUNG_UP; one entry a request in these four.
        times: when it ended.
        latencies: seconds from the time it was due to its end.
        service_times: seconds from when it was really sent to its end.
    """

    sent: int = 0
    unsent: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    without_retry_after: int = 0
    without_request_id: int = 0
    unasked: int = 0
    incidents: list[Incident] = field(default_factory=list)
    first: float = math.inf
    last: float = -math.inf
    ends: array[int] = field(default_factory=lambda: array("h"), repr=False)
    times: array[float] = field(default_factory=lambda: array("d"), repr=False)
    latencies: array[float] = field(default_factory=lambda: array("d"), repr=False)
    service_times: array[float] = field(default_factory=lambda: array("d"), repr=False)

    # Filled by connections

    def count_sent(self, now: float) -> None:
        self.sent += 1
        if now < self.first:
            self.first = now

    def count_end(self, end: int, due: float, sent: float, now: float) -> None:
        self.ends.append(end)
        self.times.append(now)
        self.latencies.append(now - due)
        self.service_times.append(now - sent)
        if now > self.last:
            self.last = now

    def note(self, what: str, request_id: bytes, now: float, arrived: bytes) -> None:
        if len(self.incidents) < MOST_INCIDENTS:
            self.incidents.append(Incident(what, request_id.decode(), now, arrived[:300].decode("latin-1")))

    # Read by tests

    @property
    def by_status(self) -> Counter[int]:
        """Answers by status, without the wrong ones."""
        return Counter({end: count for end, count in Counter(self.ends).items() if end >= 100})

    @property
    def ok(self) -> int:
        return self.ends.count(200)

    @property
    def wrong(self) -> int:
        """Answers that are not for their request: a 200 with other labels, or any with another ``X-Request-Id``."""
        return self.ends.count(WRONG)

    @property
    def lost(self) -> int:
        return self.ends.count(LOST)

    @property
    def hung_up(self) -> int:
        """Requests that this side gave up on purpose."""
        return self.ends.count(HUNG_UP)

    @property
    def client_errors(self) -> int:
        return sum(count for status, count in self.by_status.items() if 400 <= status < 500)

    @property
    def shed(self) -> int:
        """503s to what was not admitted."""
        return self.ends.count(503) - sum(self.codes[code] for code in GIVEN_UP)

    @property
    def timeouts(self) -> int:
        return self.ends.count(504)

    @property
    def failed(self) -> int:
        """Every other status, and 503s to what was admitted."""
        return self.by_status.total() - self.ok - self.client_errors - self.shed - self.timeouts

    @property
    def late(self) -> int:
        """Requests that were sent more than 10 ms after they were due.

        With any, the generator was at its own limit (its core, or all its connections were busy), and what was measured
        is not the server alone.
        """
        return sum(delay > LATE_SECONDS for delay in self._delays())

    @property
    def most_late(self) -> float:
        """The longest time between due and sent, in seconds."""
        return max(self._delays(), default=0.0)

    def _delays(self) -> list[float]:
        return [due - sent for due, sent in zip(self.latencies, self.service_times, strict=True)]

    def p(
        self,
        quantile: float,
        status: int = 200,
        *,
        from_send: bool = False,
        within: tuple[float, float] = (-math.inf, math.inf),
    ) -> float:
        """A quantile of the seconds to answers with a status, by nearest rank; NaN, which fails every bound, without any.

        Args:
            quantile: above 0, at most 1.
            status: which answers; LOST, WRONG or HUNG_UP for the time until that was known.
            from_send: from when they were sent instead of when they were due.
            within: the times between which they ended.
        """
        if not 0 < quantile <= 1:
            raise ValueError(f"a quantile is above 0 and at most 1, not {quantile:g}")
        seconds = self.service_times if from_send else self.latencies
        start, end = within
        found = sorted(
            taken
            for ended, time, taken in zip(self.ends, self.times, seconds, strict=True)
            if ended == status and start <= time < end
        )
        return found[math.ceil(quantile * len(found)) - 1] if found else math.nan

    def rate(self, status: int = 200, *, within: tuple[float, float] | None = None) -> float:
        """Answers with a status per second, between two times or over the whole load."""
        start, end = within or (self.first, self.last)
        if not end > start:
            return 0.0
        if within is None:
            return self.ends.count(status) / (end - start)
        inside = sum(ended == status and start <= time < end for ended, time in zip(self.ends, self.times, strict=True))
        return inside / (end - start)

    def series(self, status: int = 200, *, width: float = 0.1) -> list[int]:
        """Answers with a status in each slot of ``width`` seconds, the first of which starts at ``first``."""
        if not self.times:
            return []
        slots = [0] * (int((self.last - self.first) / width) + 1)
        for end, time in zip(self.ends, self.times, strict=True):
            if end == status:
                slots[int((time - self.first) / width)] += 1
        return slots

    def check_conservation(
        self, before: Mapping[str, float] | None = None, after: Mapping[str, float] | None = None
    ) -> None:
        """Every request has exactly one end here, and the server counted the same.

        The two sides may differ only by requests whose answer this side did not see: those lost, and those it hung up on.

        Args:
            before: ``tests.faults.metrics.outcomes`` of the server before the load; nothing but this load may come between.
            after: the same after it, once nothing is in flight.

        Raises:
            AssertionError: a number does not add up.
        """
        mine = {
            "ok": self.ok,
            "client_error": self.client_errors,
            "shed": self.shed,
            "timeout": self.timeouts,
            "failed": self.failed,
        }
        unseen = self.lost + self.hung_up
        assert self.sent == sum(mine.values()) + self.wrong + unseen, f"requests without an end, or with two: {self}"
        if before is None or after is None:
            return
        theirs = {name: after[name] - before[name] for name in after}
        message = f"sent {self.sent}, saw {mine}, wrong {self.wrong}, unseen {unseen}; the server counted {theirs}"
        assert theirs["received"] == sum(theirs[name] for name in (*mine, "disconnected")), message
        assert self.sent - unseen <= theirs["received"] <= self.sent, message
        assert all(theirs[name] >= seen for name, seen in mine.items()), message
        assert theirs["disconnected"] <= unseen, message

    def merge(self, other: Tally) -> Tally:
        """Both loads as one."""
        merged = Tally(first=min(self.first, other.first), last=max(self.last, other.last))
        for each in fields(self):
            if each.name not in ("first", "last"):
                setattr(merged, each.name, getattr(self, each.name) + getattr(other, each.name))
        return merged

    def summary(self) -> dict[str, Any]:
        """The figures that one wants to see."""
        return {
            "sent": self.sent,
            "unsent": dict(self.unsent),
            "ok": self.ok,
            "wrong": self.wrong,
            "lost": dict(self.losses),
            "hung_up": self.hung_up,
            "by_status": dict(sorted(self.by_status.items())),
            "codes": dict(self.codes),
            "without_retry_after": self.without_retry_after,
            "without_request_id": self.without_request_id,
            "unasked": self.unasked,
            "late": self.late,
            "most_late_ms": round(self.most_late * 1000, 1),
            "ok_per_second": round(self.rate(), 1),
            "p50_ms": round(self.p(0.5) * 1000, 2),
            "p99_ms": round(self.p(0.99) * 1000, 2),
            "p99_from_send_ms": round(self.p(0.99, from_send=True) * 1000, 2),
        }

    # Between processes

    def to_json(self) -> dict[str, Any]:
        """What JSON can hold; ``from_json`` gives back an equal tally."""
        document: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            document[each.name] = base64.b64encode(value).decode() if isinstance(value, array) else value
        return {**document, "first": _finite(self.first), "last": _finite(self.last)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Tally:
        tally = cls()
        for name, value in document.items():
            current = getattr(tally, name)
            if isinstance(current, array):
                current.frombytes(base64.b64decode(value))
            elif isinstance(current, Counter):
                current.update(value)
            elif name == "incidents":
                tally.incidents = [Incident(*incident) for incident in value]
            elif value is not None:
                setattr(tally, name, value)
        return tally


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
