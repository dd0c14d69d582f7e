"""A real server whose models are loaded by their names, and the client that Triton's users have."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.predictor import Predictor
from tests.processes import wait_for
from tests.server_process import ServerProcess, ready_server
from tests.service.answers import check
from tests.tiny_models import copy_of_texts

TRITON = """
import sys, urllib.request, json, tritonclient.http as http
from tritonclient.utils import InferenceServerException

client = http.InferenceServerClient(sys.argv[1])

def states():
    return [(row["name"], row["version"], row["state"]) for row in client.get_model_repository_index()]

def status():
    request = urllib.request.Request(
        f"http://{sys.argv[1]}/v1/models/letters:predict", b'{"instances": ["abc"]}', {"Content-Type": "application/json"}
    )
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        assert json.load(error)["code"] == "version_not_loaded"
        return error.code

def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return error.status(), error.message()
    raise AssertionError("it was not refused")

assert client.is_server_ready()
assert states() == [("letters", "1", "UNAVAILABLE"), ("moods", "1", "READY")], states()
assert status() == 404
for _ in range(2):
    client.load_model("letters")
    assert status() == 200
    assert states() == [("letters", "1", "READY"), ("moods", "1", "READY")], states()
    client.unload_model("letters", unload_dependents=True)
    assert status() == 404
    assert states() == [("letters", "1", "UNAVAILABLE"), ("moods", "1", "READY")], states()
client.load_model("letters")
client.load_model("letters")
assert status() == 200
for call in (client.load_model, client.unload_model):
    code, message = refused(call, "lettres")
    assert code == "404" and "did you mean 'letters'?" in message, (code, message)
code, message = refused(client.load_model, "letters", config="{}")
assert code == "501" and message.startswith("not_supported: "), (code, message)
code, message = refused(client.load_model, "letters", config="{}", files={"file:1/model.onnx": b"0" * 100_000})
assert code == "501" and message.startswith("not_supported: "), (code, message)
"""


@pytest.fixture(scope="module")
def server(models_on_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """It begins with ``moods``."""
    repository = tmp_path_factory.mktemp("explicit") / "repository"
    copy_of_texts(models_on_disk, repository)
    with ready_server(repository, "--model-control", "explicit", "--load-model", "moods", "--workers", "2") as server:
        yield server


def control(server: ServerProcess, verb: str) -> tuple[int, str]:
    reply = server.request("POST", f"/v2/repository/models/letters/{verb}")
    return reply.status, "" if reply.status == 200 else reply.code


def test_an_unmodified_client_of_triton_loads_and_unloads(server: ServerProcess) -> None:
    pytest.importorskip("tritonclient", reason="needs the extra: graftwork[triton]")
    before = {path: path.read_bytes() for path in server.repository.rglob("*") if path.is_file()}
    code = [sys.executable, "-c", TRITON, f"127.0.0.1:{server.port}"]  # importing gevent changes a process
    done = subprocess.run(code, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    audit = server.repository / ".audit.jsonl"
    lines = audit.read_text().removeprefix(before.get(audit, b"").decode()).splitlines()
    results = Counter((line["what"], line["result"]) for line in map(json.loads, lines))
    assert results == {
        ("models.load", "ok"): 4,
        ("models.unload", "ok"): 2,
        ("models.load", "model_not_found"): 1,
        ("models.unload", "model_not_found"): 1,
        ("models.load", "not_supported"): 1,  # the body of the other one was not read
    }
    # What is loaded is nowhere but in the server's memory: another start begins with --load-model again.
    after = {path: path.read_bytes() for path in server.repository.rglob("*") if path.is_file() and path != audit}
    assert after == {path: content for path, content in before.items() if path != audit}


def test_g5_loads_and_unloads_under_requests(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    """In small: 32 threads, each answer right or a refusal that says why, and the server is ready after it."""
    control(server, "load")
    over = threading.Event()
    seen: Counter[tuple[str, int, str]] = Counter()

    def change(number: int) -> None:
        order = random.Random(number)
        for _ in range(25):
            verb = order.choice(("load", "load", "unload"))
            seen[verb, *control(server, verb)] += 1

    def ask(number: int) -> None:
        texts = [f"text {number}"]
        while not over.is_set():
            reply = server.predict("letters", texts)
            seen["predict", reply.status, "" if reply.status == 200 else reply.code] += 1
            if reply.status == 200:
                check(reply, predictors["letters"], texts)

    with ThreadPoolExecutor(32) as threads:
        asking = [threads.submit(ask, number) for number in range(28)]
        changing = [threads.submit(change, number) for number in range(4)]
        try:
            for each in changing:
                each.result()
        finally:
            over.set()
        for each in asking:
            each.result()
    assert set(seen) <= {
        ("predict", 200, ""),
        ("predict", 404, "version_not_loaded"),
        ("predict", 503, "not_ready"),
        ("load", 200, ""),
        ("load", 409, "conflict"),
        ("unload", 200, ""),
    }, seen
    assert seen["predict", 200, ""] > 0 < seen["predict", 404, "version_not_loaded"], seen
    assert control(server, "load") == (200, "")
    check(server.predict("letters", ["after it"]), predictors["letters"], ["after it"])
    assert server.status_of("/health/ready") == 200
    assert server.metric("graftwork_in_flight_rows") == {(): 0}
    # Both models stand on one backbone, which stays for the other one.
    assert control(server, "unload") == (200, "")
    wait_for(lambda: server.metric("graftwork_loaded_versions") == {("moods", "1"): 1}, 10, server.text)
    assert server.predict("moods", ["glad"]).status == 200
