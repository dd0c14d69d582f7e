"""What became of the requests of a load."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

MOST_COMPLAINTS = 5  # that are kept
PERCENTILES = (50, 90, 99, 99.9)


class Tally:
    """Every request has one end: sent = right + wrong + lost + those with another status than 200.

    Attributes:
        sent: requests that were due, also those that no connection could be had for.
        statuses: of the answers; those of 200 are right or wrong.
        lost: requests without a whole answer, by the reason.
        wrong: answers of status 200 that were not right.
        complaints: what was wrong with the first of them.
        latencies: seconds of the right answers, from when their requests were due.
        delays: seconds from when a request was due until it was sent, of all that were sent.
        errors: the body of the first answer of each other status.
    """

    def __init__(self) -> None:
        self.sent = self.wrong = 0
        self.statuses: Counter[int] = Counter()
        self.lost: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.latencies, self.delays = array("d"), array("d")
        self.errors: dict[int, str] = {}

    @property
    def right(self) -> int:
        return len(self.latencies)

    @property
    def ended(self) -> int:
        return self.statuses.total() + self.lost.total()

    def complain(self, text: str) -> None:
        """An answer was wrong."""
        self.wrong += 1
        if len(self.complaints) < MOST_COMPLAINTS:
            self.complaints.append(text)

    def note_error(self, status: int, body: bytes) -> None:
        """An answer had another status than 200."""
        if status not in self.errors:
            self.errors[status] = body[:500].decode(errors="replace")

    def summary(self, seconds: float, cpu_seconds: float) -> dict[str, Any]:
        """The figures that one wants to see; times in milliseconds.

        Args:
            seconds: for which requests were due, and more where answers took longer.
            cpu_seconds: that this process worked meanwhile. Near one core, it is the generator that is measured.
        """
        ordered = sorted(self.latencies)
        return {
            "sent": self.sent,
            "right": self.right,
            "wrong": self.wrong,
            "lost": dict(self.lost),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "seconds": round(seconds, 3),
            "right_per_second": round(self.right / seconds, 2) if seconds else 0.0,
            **{f"p{share:g}_ms": _milliseconds(percentile(ordered, share)) for share in PERCENTILES},
            "max_ms": _milliseconds(ordered[-1] if ordered else math.nan),
            "sent_late_p99_ms": _milliseconds(percentile(sorted(self.delays), 99)),
            "generator_cores": round(cpu_seconds / seconds, 3) if seconds else 0.0,
            "complaints": self.complaints,
            "errors": {str(status): text for status, text in sorted(self.errors.items())},
        }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so many per cent do not exceed; NaN of nothing."""
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)] if ordered else math.nan


def _milliseconds(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1000, 3)
