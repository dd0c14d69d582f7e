from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from service.api.metrics import UNKNOWN
from service.api.request_counts import RequestCounts
from service.api.triton_metrics import triton_exposition
from service.messages import Batch, Timings
from tests.server_process import samples
from tests.service.site import Play, Site

REASON = {
    "shed": "REJECTED",
    "timeout": "REJECTED",
    "disconnected": "CANCELED",
    "failed": "BACKEND",
    "client_error": "OTHER",
}

TOTAL = "_total"  # which the parser puts behind the names of counters that have none

# What Triton printed, for one model.
OF_TRITON = """\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="densenet_onnx",version="1"} 0
# HELP nv_inference_request_failure Number of failed inference requests, all batch sizes
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="densenet_onnx",reason="OTHER",version="1"} 0
nv_inference_request_failure{model="densenet_onnx",reason="BACKEND",version="1"} 0
nv_inference_request_failure{model="densenet_onnx",reason="CANCELED",version="1"} 0
nv_inference_request_failure{model="densenet_onnx",reason="REJECTED",version="1"} 0
# HELP nv_inference_count Number of inferences performed (does not include cached requests)
# TYPE nv_inference_count counter
nv_inference_count{model="densenet_onnx",version="1"} 0
# HELP nv_inference_exec_count Number of model executions performed (does not include cached requests)
# TYPE nv_inference_exec_count counter
nv_inference_exec_count{model="densenet_onnx",version="1"} 0
# HELP nv_inference_request_duration_us Cumulative inference request duration in microseconds (includes cached requests)
# TYPE nv_inference_request_duration_us counter
nv_inference_request_duration_us{model="densenet_onnx",version="1"} 0
# HELP nv_inference_queue_duration_us Cumulative inference queuing duration in microseconds (includes cached requests)
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{model="densenet_onnx",version="1"} 0
# HELP nv_inference_compute_input_duration_us Cumulative compute input duration in microseconds (does not include cached \
requests)
# TYPE nv_inference_compute_input_duration_us counter
nv_inference_compute_input_duration_us{model="densenet_onnx",version="1"} 0
# HELP nv_inference_compute_infer_duration_us Cumulative compute inference duration in microseconds (does not include \
cached requests)
# TYPE nv_inference_compute_infer_duration_us counter
nv_inference_compute_infer_duration_us{model="densenet_onnx",version="1"} 0
# HELP nv_inference_compute_output_duration_us Cumulative inference compute output duration in microseconds (does not \
include cached requests)
# TYPE nv_inference_compute_output_duration_us counter
nv_inference_compute_output_duration_us{model="densenet_onnx",version="1"} 0
# HELP nv_inference_pending_request_count Instantaneous number of pending requests awaiting execution per-model.
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="densenet_onnx",version="1"} 0
"""


def test_it_is_line_for_line_what_triton_prints() -> None:
    found = triton_exposition({("densenet_onnx", "1"): 0}, {})
    assert Counter(found.splitlines()) == Counter(
        OF_TRITON.splitlines()
    )  # Triton's own order of reasons is that of a hash
    order = [line for line in OF_TRITON.splitlines() if line.startswith("#")]
    assert [line for line in found.splitlines() if line.startswith("#")] == order


requests = st.lists(
    st.tuples(
        st.sampled_from([("a", "1"), ("a", "2"), ("b.c-D_9", "1"), (UNKNOWN, UNKNOWN)]),
        st.sampled_from(["ok", *REASON]),
        st.integers(1, 9),
        st.floats(0, 1e6),
    )
)


@given(requests, st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.floats(0, 10))))
def test_its_numbers_are_those_of_our_own_metrics(
    ended: list[tuple[tuple[str, str], str, int, float]], batches: list[tuple[str, int, float]]
) -> None:
    counts = RequestCounts()
    for (model, version), outcome, rows, seconds in ended:
        counts.begin()
        if outcome == "ok":
            counts.answer(model, version, rows, Timings(decode=seconds, queue=2 * seconds, compute=3 * seconds))
        counts.end(model, version, outcome, 10 * seconds)
    for model, rows, seconds in batches:
        counts.batch(Batch(backbone="b", rows=rows, seconds=seconds, versions=[(model, 1, rows)]))
    text = triton_exposition({("a", "1"): 3, ("idle", "7"): 0}, counts.versions)
    for family in text_string_to_metric_families(text):
        assert family.type == ("gauge" if "pending" in family.name else "counter")
        assert family.documentation
    ours = counts.exposition().encode()

    def theirs(name: str) -> dict[tuple[str, ...], float]:
        return {k: v for k, v in samples(text.encode(), f"nv_inference_{name}{TOTAL}").items() if v}

    def of_ours(name: str) -> dict[tuple[str, ...], float]:
        return {k: v for k, v in samples(ours, f"graftwork_{name}").items() if v and UNKNOWN not in k}

    outcomes = of_ours("requests_total")
    wanted: Counter[tuple[str, ...]] = Counter()
    for (model, outcome, version), count in outcomes.items():
        if outcome != "ok":
            wanted[model, REASON[outcome], version] += int(count)
    assert theirs("request_failure") == wanted
    assert theirs("request_success") == {(m, v): n for (m, outcome, v), n in outcomes.items() if outcome == "ok"}
    assert theirs("count") == of_ours("rows_total")
    for part, name in [("decode", "compute_input"), ("queue", "queue"), ("compute", "compute_infer")]:
        microseconds = {key: round(value * 1e6) for key, value in of_ours(f"{part}_seconds_sum").items()}
        assert theirs(f"{name}_duration_us") == {key: value for key, value in microseconds.items() if value}
    assert theirs("compute_output_duration_us") == {}
    spent: Counter[tuple[str, str]] = Counter()
    for key, outcome, _, seconds in ended:
        if outcome == "ok" and key[0] != UNKNOWN:
            spent[key] += 10 * seconds  # type: ignore[assignment]
    assert theirs("request_duration_us") == {k: round(s * 1e6) for k, s in spent.items() if round(s * 1e6)}
    assert theirs("exec_count") == Counter((model, "1") for model, *_ in batches)
    pending = samples(text.encode(), "nv_inference_pending_request_count")
    assert pending.pop(("a", "1")) == 3
    assert pending["idle", "7"] == sum(pending.values()) == 0


def test_it_is_there_where_it_is_asked_for(play: Play) -> None:
    async def without(site: Site) -> None:
        assert b"nv_inference" not in (await site.get("/metrics")).body

    async def story(site: Site) -> None:
        site.engine.gate.clear()
        asking = asyncio.create_task(site.predict("letters", ["1", "2"]))
        await site.until("nv_inference_pending_request_count", "letters", "1", value=1)
        site.engine.gate.set()
        assert (await asking).status == 200
        assert (await site.predict("letters", ["blank"])).status == 422
        for name, value in [("pending_request_count", 0), (f"request_success{TOTAL}", 1), (f"count{TOTAL}", 2)]:
            assert await site.metric(f"nv_inference_{name}") == {("letters", "1"): value, ("moods", "1"): 0}
        failures = await site.metric(f"nv_inference_request_failure{TOTAL}")
        assert {key for key, value in failures.items() if value} == {("letters", "OTHER", "1")}
        assert await site.metric("graftwork_rows_total")  # ours are still there

    play(without, workers=0)
    play(story, triton_metrics=True)
