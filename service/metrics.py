"""Every metric of the server, in one registry of the API process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service.messages import Timings

UNKNOWN = "_unknown"  # the label of whatever a caller made up: label values stay bounded

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The server's metrics; ``model`` and ``version`` name versions that exist, or ``_unknown``.

    Args:
        version: of Graftwork, for the build info.
    """

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series a metric that nobody asks for
        self.registry = CollectorRegistry()
        by_version = ["model", "version"]

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, by_version, buckets=SECONDS, registry=self.registry)

        self.requests = Counter(
            "graftwork_requests_total",
            "Prediction requests by outcome: ok, client_error, shed, timeout, failed, disconnected.",
            [*by_version, "outcome"],
            registry=self.registry,
        )
        self.rows = Counter("graftwork_rows_total", "Rows answered.", by_version, registry=self.registry)
        self.errors = Counter(
            "graftwork_errors_total",
            "Prediction requests that got an error, by its code.",
            [*by_version, "reason"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "graftwork_in_flight_requests", "Prediction requests accepted and not yet answered.", registry=self.registry
        )
        self.rows_in_flight = Gauge(
            "graftwork_in_flight_rows", "Rows accepted and not yet answered.", registry=self.registry
        )
        self.queue_depth = Gauge(
            "graftwork_queue_depth_rows",
            "Rows that wait for the device, as the worker last said.",
            ["worker"],
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "graftwork_batch_size_rows",
            "Rows in each batch that a device computed, by backbone digest.",
            ["backbone"],
            buckets=ROWS,
            registry=self.registry,
        )
        self.total_seconds = histogram("graftwork_request_seconds", "From the request's arrival to its answer.")
        self.queue_seconds = histogram("graftwork_queue_seconds", "A request's slowest row waiting for the device.")
        self.decode_seconds = histogram("graftwork_decode_seconds", "A request's slowest row being prepared.")
        self.compute_seconds = histogram("graftwork_compute_seconds", "A request's slowest batch on the device.")
        self.loaded_versions = Gauge(
            "graftwork_loaded_versions", "1 for each version that is served.", by_version, registry=self.registry
        )
        self.load_failures = Counter(
            "graftwork_load_failures_total",
            "Versions that a worker refused to load.",
            ["model"],
            registry=self.registry,
        )
        self.workers = Gauge("graftwork_workers", "Engine workers that are connected.", registry=self.registry)
        self.ready = Gauge(
            "graftwork_ready", "1 while the server answers /health/ready with 200.", registry=self.registry
        )
        build = Gauge("graftwork_build_info", "The version that runs.", ["version"], registry=self.registry)
        build.labels(version).set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def observe_batches(self, worker: int, batches: Sequence[tuple[str, int]], waiting: int) -> None:
        """What a worker computed since its last message."""
        for backbone, rows in batches:
            self.batch_size.labels(backbone[:12]).observe(rows)
        self.queue_depth.labels(str(worker)).set(waiting)

    def observe_answer(self, model: str, version: str, rows: int, timings: Timings) -> None:
        """A request that was answered with predictions."""
        self.rows.labels(model, version).inc(rows)
        self.queue_seconds.labels(model, version).observe(timings.queue)
        self.decode_seconds.labels(model, version).observe(timings.decode)
        self.compute_seconds.labels(model, version).observe(timings.compute)

    def observe_end(self, model: str, version: str, outcome: str, reason: str | None, seconds: float) -> None:
        """The one end that every prediction request has."""
        self.requests.labels(model, version, outcome).inc()
        if reason is not None:
            self.errors.labels(model, version, reason).inc()
        self.total_seconds.labels(model, version).observe(seconds)

    def forget_worker(self, worker: int) -> None:
        """A worker is gone: its queue with it."""
        with suppress(KeyError):
            self.queue_depth.remove(str(worker))

    def forget_version(self, model: str, version: str) -> None:
        """A version is no longer served."""
        with suppress(KeyError):
            self.loaded_versions.remove(model, version)

    def exposition(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)
