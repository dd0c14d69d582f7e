"""What Triton's own client and whoever reads its metrics find at the real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import wait_for
from tests.server_process import ServerProcess, ready_server

CODE = """
import json, sys, tritonclient.http as http
from tritonclient.utils import InferenceServerException
client = http.InferenceServerClient(sys.argv[1])
try:
    client.get_inference_statistics("nobody")
except InferenceServerException as error:
    refused = error.message()
print(json.dumps({
    "all": client.get_inference_statistics(),
    "model": client.get_inference_statistics("letters"),
    "version": client.get_inference_statistics("letters", "1"),
    "refused": refused,
}))
"""  # in a process of its own: importing gevent changes this one


def test_an_unmodified_client_reads_the_statistics_and_they_agree_with_both_kinds_of_metrics(
    models_on_disk: Path,
) -> None:
    pytest.importorskip("tritonclient", reason="needs the extra: graftwork[triton]")
    with ready_server(models_on_disk, "--triton-metrics") as server:
        for texts, status in [(["a"], 200), (["b", "c", "d"], 200), ([""], 422)]:
            assert server.predict("letters", texts).status == status
        wait_for(lambda: sum(server.metric("graftwork_batch_size_rows_sum").values()) == 4, 10)
        done = subprocess.run(
            [sys.executable, "-c", CODE, f"127.0.0.1:{server.port}"], check=True, timeout=60, stdout=subprocess.PIPE
        )
        found = json.loads(done.stdout)
        stats = {each["name"]: each for each in found["all"]["model_stats"]}
        assert list(stats) == ["colours", "letters", "moods"]
        assert found["model"] == found["version"] == {"model_stats": [stats["letters"]]}
        assert found["refused"].startswith("model_not_found: ")
        inference = stats["letters"]["inference_stats"]
        assert (inference["success"]["count"], inference["fail"]["count"]) == (2, 1)
        assert stats["letters"]["inference_count"] == 4
        assert stats["moods"]["inference_count"] == stats["moods"]["last_inference"] == 0
        key = ("letters", "1")
        assert triton(server, "request_success")[key] == 2
        assert triton(server, "request_failure")["letters", "OTHER", "1"] == 1
        assert triton(server, "count")[key] == server.metric("graftwork_rows_total")[key] == 4
        assert triton(server, "exec_count")[key] == stats["letters"]["execution_count"]
        for ours, name in [("success", "request"), ("queue", "queue"), ("compute_infer", "compute_infer")]:
            microseconds = triton(server, f"{name}_duration_us")[key]
            assert microseconds == pytest.approx(inference[ours]["ns"] / 1000, abs=1)
        assert server.metric("nv_inference_pending_request_count") == {(name, "1"): 0 for name in stats}


def triton(server: ServerProcess, name: str) -> dict[tuple[str, ...], float]:
    """One of Triton's counters; the parser puts ``_total`` behind its name."""
    return server.metric(f"nv_inference_{name}_total")
