"""What is counted with every prediction request.

In plain numbers: only the event loop's thread changes them, and prometheus_client's own, with a lock each, take more time
than everything else that is counted, logged and measured of a request.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate

from prometheus_client.utils import floatToGoString

from service.messages import Batch, Timings

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_BOUNDS = [*map(str, SECONDS), "+Inf"]
RECEIVED = "Prediction requests that arrived; each ends with one outcome below."
OUTCOMES = ("ok", "client_error", "shed", "timeout", "failed", "disconnected")
REQUESTS = f"Prediction requests by outcome: {', '.join(OUTCOMES)}."
DURATIONS = {
    "total": ("graftwork_request_seconds", "From the request's arrival to its answer."),
    "queue": ("graftwork_queue_seconds", "A request's slowest row waiting for the device."),
    "decode": ("graftwork_decode_seconds", "A request's slowest row being prepared."),
    "compute": ("graftwork_compute_seconds", "A request's slowest batch on the device."),
}


class Durations:
    """How many took how long; a histogram over ``SECONDS``."""

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self._counts)

    def lines(self, name: str, labels: str) -> str:
        """The lines of a histogram: how many took no longer than each bound, how many there are, and their sum."""
        counts = [_number(each) for each in accumulate(self._counts)]
        buckets = [f'{name}_bucket{{le="{b}",{labels}}} {n}\n' for b, n in zip(_BOUNDS, counts, strict=True)]
        return f"{''.join(buckets)}{name}_count{{{labels}}} {counts[-1]}\n{name}_sum{{{labels}}} {_number(self.sum)}\n"


class BatchCounts:
    """Batches of one size."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0


class VersionCounts:
    """What is counted of one version.

    Attributes:
        rows: answered.
        ok_seconds: from arrival to answer, of requests that were answered with predictions.
        failed_seconds: of all others.
        last_answer_ms: when the last one was answered, in milliseconds since 1970; 0 where none was.
        executions: batches with a row of it.
        batches: the same by their size: by the rows of all versions in them.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.ok_seconds = 0.0
        self.failed_seconds = 0.0
        self.last_answer_ms = 0
        self.executions = 0
        self.batches: dict[int, BatchCounts] = {}
        self.outcomes: Counter[str] = Counter()
        self.total = Durations()
        self.queue = Durations()
        self.decode = Durations()
        self.compute = Durations()


class RequestCounts:
    """Every prediction request that arrived, and the one end of each.

    It writes its own lines: a thousand models have 79,000, of which prometheus_client would make an object each first.
    """

    def __init__(self) -> None:
        self.received = 0
        self.open = 0
        self._versions: dict[tuple[str, str], VersionCounts] = {}

    def begin(self) -> None:
        """A request arrived."""
        self.received += 1
        self.open += 1

    def answer(self, model: str, version: str, rows: int, timings: Timings) -> None:
        """A request was answered with predictions."""
        counts = self._of(model, version)
        counts.rows += rows
        counts.last_answer_ms = int(time.time() * 1000)
        counts.queue.observe(timings.queue)
        counts.decode.observe(timings.decode)
        counts.compute.observe(timings.compute)

    def end(self, model: str, version: str, outcome: str, seconds: float) -> None:
        """A request ended."""
        self.open -= 1
        counts = self._of(model, version)
        counts.outcomes[outcome] += 1
        counts.total.observe(seconds)
        if outcome == "ok":
            counts.ok_seconds += seconds
        else:
            counts.failed_seconds += seconds

    def batch(self, batch: Batch) -> None:
        """A batch was computed."""
        for name, number, _ in batch.versions:
            counts = self._of(name, str(number))
            counts.executions += 1
            same = counts.batches.get(batch.rows)
            if same is None:
                same = counts.batches[batch.rows] = BatchCounts()
            same.count += 1
            same.seconds += batch.seconds

    @property
    def versions(self) -> Mapping[tuple[str, str], VersionCounts]:
        """What is counted of each model and version that was asked for, as labels have them."""
        return self._versions

    def _of(self, model: str, version: str) -> VersionCounts:
        found = self._versions.get((model, version))
        if found is None:
            found = self._versions[model, version] = VersionCounts()
        return found

    def exposition(self) -> str:
        """The text format of Prometheus; in any thread: it takes copies of what may grow meanwhile."""
        # Names of models and versions, which hold nothing that would have to be escaped.
        versions = [(f'model="{m}"', f'version="{v}"', counts) for (m, v), counts in list(self._versions.items())]
        parts = [
            _head("graftwork_received_requests_total", "counter", RECEIVED),
            f"graftwork_received_requests_total {_number(self.received)}\n",
            _head("graftwork_requests_total", "counter", REQUESTS),
        ]
        for model, version, counts in versions:
            for outcome in OUTCOMES:  # from 0 on: of what begins with 1, rate() does not see the first
                count = _number(counts.outcomes[outcome])
                parts.append(f'graftwork_requests_total{{{model},outcome="{outcome}",{version}}} {count}\n')
        parts.append(_head("graftwork_rows_total", "counter", "Rows answered."))
        parts += [f"graftwork_rows_total{{{model},{version}}} {_number(c.rows)}\n" for model, version, c in versions]
        for part, (name, text) in DURATIONS.items():
            parts.append(_head(name, "histogram", text))
            for model, version, counts in versions:
                durations: Durations = getattr(counts, part)
                parts.append(durations.lines(name, f"{model},{version}"))
        return "".join(parts)


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _number(value: float) -> str:
    """As prometheus_client writes it, which differs from Python's own way for large numbers only."""
    return str(floatToGoString(value)) if value >= 1_000_000 else repr(float(value))  # type: ignore[no-untyped-call]
