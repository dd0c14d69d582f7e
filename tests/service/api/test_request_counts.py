from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.api.request_counts import DURATIONS, OUTCOMES, RECEIVED, REQUESTS, SECONDS, RequestCounts
from service.messages import Timings

durations = st.one_of(st.sampled_from(SECONDS), st.floats(0, 100))


def exposed(counts: RequestCounts) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(counts.exposition()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


NAMES = st.lists(st.sampled_from(["a", "b.c-D_9", "_unknown"]), min_size=1, max_size=3, unique=True)


@given(NAMES, st.lists(durations, max_size=50), st.sampled_from([1, 20_000_000]))
def test_it_writes_what_prometheus_client_would_write(names: list[str], seconds: list[float], rows: int) -> None:
    registry = CollectorRegistry()
    by_version = ["model", "version"]
    received = Counter("graftwork_received_requests_total", RECEIVED, registry=registry)
    requests = Counter("graftwork_requests_total", REQUESTS, [*by_version, "outcome"], registry=registry)
    answered = Counter("graftwork_rows_total", "Rows answered.", by_version, registry=registry)
    times = {
        part: Histogram(name, text, by_version, buckets=SECONDS, registry=registry)
        for part, (name, text) in DURATIONS.items()
    }
    ours = RequestCounts()
    for name in names:
        for outcome in OUTCOMES:
            requests.labels(name, "1", outcome)
        for number, each in enumerate([0.0, *seconds]):
            outcome = ("ok", "shed", "failed")[number % 3]
            ours.begin()
            ours.answer(name, "1", rows, Timings(decode=each, queue=2 * each, compute=3 * each))
            ours.end(name, "1", outcome, 4 * each)
            received.inc()
            answered.labels(name, "1").inc(rows)
            requests.labels(name, "1", outcome).inc()
            for factor, part in enumerate(("decode", "queue", "compute", "total"), 1):
                times[part].labels(name, "1").observe(factor * each)
    theirs = generate_latest(registry).decode().splitlines()
    assert [line for line in theirs if "_created" not in line] == ours.exposition().splitlines()


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
