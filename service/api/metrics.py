"""Every metric of the server, in one registry of the API process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service.api.request_counts import RequestCounts, VersionCounts
from service.messages import Report, Timings

UNKNOWN = "_unknown"  # the label of whatever a caller made up: label values stay bounded

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The server's metrics; ``model`` and ``version`` name versions that exist, or ``_unknown``.

    Args:
        version: of Graftwork, for the build info.
    """

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series a metric that nobody asks for
        self.registry = CollectorRegistry()
        self._requests = RequestCounts()
        by_version = ["model", "version"]
        self.errors = Counter(
            "graftwork_errors_total",
            "Prediction requests that got an error, by its code.",
            [*by_version, "reason"],
            registry=self.registry,
        )
        self.refusals = Counter(
            "graftwork_refused_requests_total",
            "Requests that were refused for who sent them, by the error's code and the key, where one was known.",
            ["reason", "key"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "graftwork_in_flight_requests", "Prediction requests received and not yet ended.", registry=self.registry
        )
        self.in_flight.set_function(lambda: self._requests.open)
        self.rows_in_flight = Gauge(
            "graftwork_in_flight_rows", "Rows accepted and not yet answered.", registry=self.registry
        )
        self.bytes_in_flight = Gauge(
            "graftwork_in_flight_bytes", "Bytes of the bodies of requests in flight.", registry=self.registry
        )
        self.rows_limit = Gauge(
            "graftwork_in_flight_limit_rows",
            "Rows in flight from which on requests are refused.",
            registry=self.registry,
        )
        self.bytes_limit = Gauge(
            "graftwork_in_flight_limit_bytes",
            "Bytes of bodies in flight from which on requests are refused.",
            registry=self.registry,
        )
        self.dropped_rows = Counter(
            "graftwork_dropped_rows_total",
            "Rows that were not computed, as their deadline had passed or their client had hung up.",
            registry=self.registry,
        )
        self.retries = Counter(
            "graftwork_retries_total", "Requests asked again after their worker was lost.", registry=self.registry
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
        self.loaded_versions = Gauge(
            "graftwork_loaded_versions", "1 for each version that is served.", by_version, registry=self.registry
        )
        self._failed_versions = Gauge(
            "graftwork_failed_versions",
            "1 for each version that cannot be loaded.",
            by_version,
            registry=self.registry,
        )
        self._failed: set[tuple[str, str]] = set()
        self.load_failures = Counter(
            "graftwork_load_failures_total",
            "Versions that a worker refused to load.",
            ["model"],
            registry=self.registry,
        )
        self.evictions = Counter(
            "graftwork_evictions_total",
            "Versions that were unloaded because others needed their memory.",
            ["model"],
            registry=self.registry,
        )
        self.on_demand_loads = Counter(
            "graftwork_on_demand_loads_total",
            "Versions that a request brought back into memory.",
            ["model"],
            registry=self.registry,
        )
        self.backbone_bytes = Gauge(
            "graftwork_backbone_bytes", "Bytes of the backbones that each worker holds.", registry=self.registry
        )
        self.backbone_budget = Gauge(
            "graftwork_backbone_budget_bytes",
            "Bytes of backbones that each worker may hold; 0 for no limit.",
            registry=self.registry,
        )
        self._disk_size = Gauge(
            "graftwork_repository_disk_size_bytes", "Of the disk that the models are on.", registry=self.registry
        )
        self._disk_free = Gauge(
            "graftwork_repository_disk_free_bytes", "What is left of it to publish models.", registry=self.registry
        )
        self.triton_up = Gauge(
            "graftwork_triton_up",
            "1 for each Triton server that is ready, as a worker last said.",
            ["url"],
            registry=self.registry,
        )
        self.triton_requests = Counter(
            "graftwork_triton_requests_total",
            "Batches that a Triton server was asked for.",
            ["url"],
            registry=self.registry,
        )
        self.triton_failures = Counter(
            "graftwork_triton_failures_total", "Those that it did not answer.", ["url"], registry=self.registry
        )
        self.triton_retries = Counter(
            "graftwork_triton_retries_total",
            "Those that a server had been asked for before, without an answer.",
            ["url"],
            registry=self.registry,
        )
        self.workers = Gauge("graftwork_workers", "Engine workers that are connected.", registry=self.registry)
        self._configured_workers = Gauge(
            "graftwork_configured_workers", "Engine workers that there shall be.", registry=self.registry
        )
        self.worker_deaths = Counter(
            "graftwork_worker_deaths_total", "Engine workers that ended.", ["worker"], registry=self.registry
        )
        self.ready = Gauge(
            "graftwork_ready", "1 while the server answers /health/ready with 200.", registry=self.registry
        )
        build = Gauge("graftwork_build_info", "The version that runs.", ["version"], registry=self.registry)
        build.labels(version).set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def expect_workers(self, count: int) -> None:
        """How many there shall be; none has died yet."""
        self._configured_workers.set(count)
        for worker in range(count):
            self.worker_deaths.labels(str(worker))

    def expect_model(self, name: str) -> None:
        """A version of it is about to be loaded: what may become of that is counted from 0 on, as `rate` wants it."""
        for counter in (self.load_failures, self.evictions, self.on_demand_loads):
            counter.labels(name)

    def observe_failed(self, versions: Iterable[tuple[str, str]]) -> None:
        """All versions that cannot be loaded at present, by their labels."""
        now = set(versions)
        for gone in self._failed - now:
            self._failed_versions.remove(*gone)
        for version in now:
            self._failed_versions.labels(*version).set(1)
        self._failed = now

    def observe_disk(self, size: int, free: int) -> None:
        """Bytes of the disk that the repository is on."""
        self._disk_size.set(size)
        self._disk_free.set(free)

    def observe_report(self, worker: int, report: Report) -> None:
        """What a worker did since its last report."""
        for batch in report.batches:
            self.batch_size.labels(batch.backbone[:12]).observe(batch.rows)
            self._requests.batch(batch)
        self.dropped_rows.inc(report.dropped)
        self.queue_depth.labels(str(worker)).set(report.waiting)
        for server in report.fleet:
            self.triton_up.labels(server.url).set(server.up)
            self.triton_requests.labels(server.url).inc(server.requests)
            self.triton_failures.labels(server.url).inc(server.failures)
            self.triton_retries.labels(server.url).inc(server.retries)

    def observe_begin(self) -> None:
        """A prediction request arrived."""
        self._requests.begin()

    def observe_answer(self, model: str, version: str, rows: int, timings: Timings) -> None:
        """A request that was answered with predictions."""
        self._requests.answer(model, version, rows, timings)

    def observe_end(self, model: str, version: str, outcome: str, reason: str | None, seconds: float) -> None:
        """The one end that every prediction request has."""
        self._requests.end(model, version, outcome, seconds)
        if reason is not None:
            self.errors.labels(model, version, reason).inc()

    @property
    def versions(self) -> Mapping[tuple[str, str], VersionCounts]:
        """What is counted of each model and version that was asked for, as labels have them."""
        return self._requests.versions

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
        return self._requests.exposition().encode() + generate_latest(self.registry)
