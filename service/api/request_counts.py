"""What is counted with every prediction request.

In plain numbers: only the event loop's thread changes them, and prometheus_client's own, with a lock each, take more time
than everything else that is counted, logged and measured of a request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.messages import Timings

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_BOUNDS = [*map(str, SECONDS), "+Inf"]
_BY_VERSION = ("model", "version")
_DURATIONS = {
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

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds, and how many took no longer."""
        return list(zip(_BOUNDS, accumulate(self._counts), strict=True))


class VersionCounts:
    """What is counted of one version."""

    def __init__(self) -> None:
        self.rows = 0
        self.outcomes: Counter[str] = Counter()
        self.total = Durations()
        self.queue = Durations()
        self.decode = Durations()
        self.compute = Durations()


class RequestCounts(Collector):
    """Every prediction request that arrived, and the one end of each."""

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
        counts.queue.observe(timings.queue)
        counts.decode.observe(timings.decode)
        counts.compute.observe(timings.compute)

    def end(self, model: str, version: str, outcome: str, seconds: float) -> None:
        """A request ended."""
        self.open -= 1
        counts = self._of(model, version)
        counts.outcomes[outcome] += 1
        counts.total.observe(seconds)

    def _of(self, model: str, version: str) -> VersionCounts:
        found = self._versions.get((model, version))
        if found is None:
            found = self._versions[model, version] = VersionCounts()
        return found

    def collect(self) -> Iterator[Metric]:
        """In any thread: it takes copies of what may grow meanwhile."""
        versions = list(self._versions.items())
        received = "Prediction requests that arrived; each ends with one outcome below."
        yield CounterMetricFamily("graftwork_received_requests_total", received, value=self.received)
        requests = CounterMetricFamily(
            "graftwork_requests_total",
            "Prediction requests by outcome: ok, client_error, shed, timeout, failed, disconnected.",
            labels=[*_BY_VERSION, "outcome"],
        )
        rows = CounterMetricFamily("graftwork_rows_total", "Rows answered.", labels=_BY_VERSION)
        for labels, counts in versions:
            for outcome, count in list(counts.outcomes.items()):
                requests.add_metric([*labels, outcome], count)
            rows.add_metric(labels, counts.rows)
        yield requests
        yield rows
        for part, (name, text) in _DURATIONS.items():
            family = HistogramMetricFamily(name, text, labels=_BY_VERSION)
            for labels, counts in versions:
                durations: Durations = getattr(counts, part)
                family.add_metric(labels, durations.buckets(), durations.sum)
            yield family
