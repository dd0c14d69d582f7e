from __future__ import annotations

import math

from prometheus_client.parser import text_string_to_metric_families

from service.messages import Timings
from service.metrics import Metrics


def filled() -> Metrics:
    metrics = Metrics("1.2.3")
    timings = Timings(decode=0.01, queue=0.02, compute=0.03)
    metrics.observe_answer("flowers", "1", 5, timings)
    metrics.observe_end("flowers", "1", "ok", None, 0.07)
    metrics.observe_end("flowers", "1", "client_error", "empty_text", 0.001)
    metrics.observe_batches(0, [("d" * 64, 3), ("d" * 64, 2)], 9)
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
    for part, seconds in [("decode", 0.01), ("queue", 0.02), ("compute", 0.03)]:
        ((_, total),) = found[f"graftwork_{part}_seconds_sum"]
        assert math.isclose(total, seconds)


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


def test_what_is_gone_has_no_series() -> None:
    metrics = filled()
    for _ in range(2):  # forgetting twice is nothing
        metrics.forget_worker(0)
        metrics.forget_version("flowers", "1")
    found = samples(metrics)
    assert "graftwork_queue_depth_rows" not in found
    assert "graftwork_loaded_versions" not in found
    assert found["graftwork_rows_total"]


def test_two_servers_in_one_process_do_not_share_metrics() -> None:
    assert "graftwork_rows_total" not in samples(Metrics("0")) or filled()
    filled()
    assert "graftwork_rows_total" not in samples(Metrics("0"))
