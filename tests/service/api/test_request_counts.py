from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.api.request_counts import SECONDS, RequestCounts
from service.messages import Timings

durations = st.one_of(st.sampled_from(SECONDS), st.floats(0, 100))


def exposed(counts: RequestCounts) -> dict[str, list[tuple[dict[str, str], float]]]:
    registry = CollectorRegistry()
    registry.register(counts)
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@given(st.lists(durations, min_size=1, max_size=50))
def test_a_histogram_is_what_prometheus_client_makes_of_it(seconds: list[float]) -> None:
    registry = CollectorRegistry()
    theirs = Histogram("graftwork_request_seconds", "x", ["model", "version"], buckets=SECONDS, registry=registry)
    ours = RequestCounts()
    for each in seconds:
        theirs.labels("m", "1").observe(each)
        ours.begin()
        ours.end("m", "1", "ok", each)
    found = exposed(ours)
    for sample in (sample for family in registry.collect() for sample in family.samples):
        if not sample.name.endswith("_created"):
            assert (sample.labels, sample.value) in found[sample.name]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["ok", "shed", "failed"]))))
def test_every_end_is_counted_once(ends: list[tuple[str, str]]) -> None:
    counts = RequestCounts()
    for _ in ends:
        counts.begin()
    assert counts.open == len(ends)
    for model, outcome in ends:
        counts.end(model, "1", outcome, 0.1)
    found = exposed(counts)
    assert counts.open == 0
    assert found["graftwork_received_requests_total"] == [({}, len(ends))]
    for model, outcome in set(ends):
        labels = {"model": model, "version": "1", "outcome": outcome}
        assert (labels, ends.count((model, outcome))) in found["graftwork_requests_total"]
    assert sum(count for _, count in found.get("graftwork_requests_total", [])) == len(ends)


def test_an_answer_has_its_rows_and_timings() -> None:
    counts = RequestCounts()
    for rows in (2, 3):
        counts.answer("m", "1", rows, Timings(decode=0.5, queue=0.25, compute=0.125))
    found, labels = exposed(counts), {"model": "m", "version": "1"}
    assert found["graftwork_rows_total"] == [(labels, 5)]
    for part, seconds in [("decode", 1.0), ("queue", 0.5), ("compute", 0.25)]:
        assert found[f"graftwork_{part}_seconds_sum"] == [(labels, seconds)]
        assert found[f"graftwork_{part}_seconds_count"] == [(labels, 2)]
