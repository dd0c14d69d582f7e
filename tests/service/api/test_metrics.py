from __future__ import annotations

import math

from prometheus_client.parser import text_string_to_metric_families

from service.api.metrics import Metrics
from service.messages import Batch, RemoteEngine, Report, Timings

REPORT = Report(batches=[Batch(backbone="d" * 64, rows=rows, seconds=0.1) for rows in (3, 2)], dropped=4, waiting=9)


def filled() -> Metrics:
    metrics = Metrics("1.2.3")
    timings = Timings(decode=0.01, queue=0.02, compute=0.03)
    for _ in range(3):
        metrics.observe_begin()
    metrics.observe_answer("flowers", "1", 5, timings)
    metrics.observe_end("flowers", "1", "ok", None, 0.07)
    metrics.observe_end("flowers", "1", "client_error", "empty_text", 0.001)
    metrics.observe_report(0, REPORT)
    metrics.worker_deaths.labels("0").inc()
    metrics.loaded_versions.labels("flowers", "1").set(1)
    metrics.load_failures.labels("flowers").inc()
    return metrics


def samples(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_the_exposition_is_one_that_prometheus_reads() -> None:
    found = samples(filled())
    assert found["graftwork_rows_total"] == [({"model": "flowers", "version": "1"}, 5)]
    assert found["graftwork_build_info"] == [({"version": "1.2.3"}, 1)]
    assert found["graftwork_batch_size_rows_sum"] == [({"backbone": "d" * 12}, 5)]
    assert found["graftwork_batch_size_rows_count"] == [({"backbone": "d" * 12}, 2)]
    assert found["graftwork_queue_depth_rows"] == [({"worker": "0"}, 9)]
    assert found["graftwork_dropped_rows_total"] == [({}, 4)]
    for part, seconds in [("decode", 0.01), ("queue", 0.02), ("compute", 0.03)]:
        ((_, total),) = found[f"graftwork_{part}_seconds_sum"]
        assert math.isclose(total, seconds)


def test_a_request_is_in_flight_from_its_begin_to_its_one_end() -> None:
    found = samples(filled())
    assert found["graftwork_received_requests_total"] == [({}, 3)]
    assert found["graftwork_in_flight_requests"] == [({}, 1)]
    ended = {labels["outcome"]: count for labels, count in found["graftwork_requests_total"]}
    assert ended == {"ok": 1, "client_error": 1, "shed": 0, "timeout": 0, "failed": 0, "disconnected": 0}
    assert found["graftwork_errors_total"] == [({"model": "flowers", "version": "1", "reason": "empty_text"}, 1)]
    assert found["graftwork_request_seconds_count"] == [({"model": "flowers", "version": "1"}, 2)]


def test_names_keep_the_rules() -> None:
    for family in text_string_to_metric_families(filled().exposition().decode()):
        if not family.name.startswith("graftwork_"):
            assert family.name.startswith(("process_", "python_"))
            continue
        assert family.documentation
        assert family.name.endswith("_total") is False  # the parser strips it from counters
        assert not any(sample.name.endswith("_created") for sample in family.samples)


def test_labels_are_only_those_that_are_bounded() -> None:
    labels = {name for entries in samples(filled()).values() for each, _ in entries for name in each}
    assert labels - {"implementation", "major", "minor", "patchlevel"} == {
        "model",
        "version",
        "outcome",
        "reason",
        "worker",
        "backbone",
        "le",
    }


def test_l19_a_worker_that_is_gone_takes_its_gauges_along_and_no_counter() -> None:
    metrics = filled()
    before = samples(metrics)
    metrics.forget_worker(0)
    after = samples(metrics)
    gone = {name for name in before if name.startswith("graftwork_") and name not in after}
    assert gone == {"graftwork_queue_depth_rows"}
    metrics.observe_report(0, REPORT)  # the one that took its place
    again = samples(metrics)
    assert again["graftwork_batch_size_rows_sum"] == [({"backbone": "d" * 12}, 10)]
    assert again["graftwork_dropped_rows_total"] == [({}, 8)]
    assert again["graftwork_queue_depth_rows"] == [({"worker": "0"}, 9)]


def test_the_servers_that_compute_are_counted_by_their_urls_over_all_workers() -> None:
    metrics = filled()
    for worker, up in ((0, True), (1, False)):
        server = RemoteEngine(url="triton:8001", up=up, requests=5, failures=2, retries=1)
        metrics.observe_report(worker, Report(fleet=[server]))
    found = samples(metrics)
    of_it = {"url": "triton:8001"}
    assert found["graftwork_triton_up"] == [(of_it, 0)]
    assert found["graftwork_triton_requests_total"] == [(of_it, 10)]
    assert found["graftwork_triton_failures_total"] == [(of_it, 4)]
    assert found["graftwork_triton_retries_total"] == [(of_it, 2)]


def test_what_is_gone_has_no_series() -> None:
    metrics = filled()
    for _ in range(2):  # forgetting twice is nothing
        metrics.forget_worker(0)
        metrics.forget_version("flowers", "1")
    found = samples(metrics)
    assert "graftwork_queue_depth_rows" not in found
    assert "graftwork_loaded_versions" not in found
    assert found["graftwork_rows_total"]


def test_what_alerts_count_begins_with_0() -> None:
    metrics = Metrics("0")
    metrics.expect_workers(2)
    metrics.expect_model("flowers")
    found = samples(metrics)
    assert found["graftwork_configured_workers"] == [({}, 2)]
    assert found["graftwork_worker_deaths_total"] == [({"worker": "0"}, 0), ({"worker": "1"}, 0)]
    for name in ("load_failures", "evictions", "on_demand_loads"):
        assert found[f"graftwork_{name}_total"] == [({"model": "flowers"}, 0)]
    metrics.load_failures.labels("flowers").inc()
    metrics.expect_model("flowers")  # another version of it
    assert samples(metrics)["graftwork_load_failures_total"] == [({"model": "flowers"}, 1)]


def test_versions_that_cannot_be_loaded_are_there_until_they_can() -> None:
    metrics = Metrics("0")
    for failed in ([("a", "1"), ("b", "2")], [("b", "2"), ("c", "3")], [], []):
        metrics.observe_failed(failed)
        found = samples(metrics).get("graftwork_failed_versions", [])
        assert sorted((labels["model"], labels["version"], value) for labels, value in found) == [
            (*version, 1) for version in failed
        ]


def test_two_servers_in_one_process_do_not_share_metrics() -> None:
    assert "graftwork_rows_total" not in samples(Metrics("0")) or filled()
    filled()
    assert "graftwork_rows_total" not in samples(Metrics("0"))
