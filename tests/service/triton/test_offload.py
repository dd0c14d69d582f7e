"""A real server whose forward passes a real Triton does."""

from __future__ import annotations

import base64
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.processes import wait_for
from tests.server_process import Reply, ServerProcess, ready_server
from tests.service.spoken import Spoken
from tests.service.triton.triton_process import TritonProcess, ready_triton
from tests.tiny_models import picture

TOLERANCE = 1e-4
ASKERS = 4


@contextmanager
def offloading(offloaded: SimpleNamespace, *tritons: TritonProcess) -> Iterator[ServerProcess]:
    urls = [word for triton in tritons for word in ("--triton-url", triton.url)]
    with ready_server(offloaded.repository, "--engine", "triton", *urls) as server:
        yield server


@pytest.fixture(scope="module")
def triton(offloaded: SimpleNamespace) -> Iterator[TritonProcess]:
    with ready_triton(offloaded.backbones) as process:
        yield process


@pytest.fixture(scope="module")
def remote(offloaded: SimpleNamespace, triton: TritonProcess) -> Iterator[ServerProcess]:
    """A server that computes nothing itself; each test leaves its Triton up."""
    with offloading(offloaded, triton) as server:
        yield server


def is_near(found: Any, wanted: Any) -> bool:
    """Whether two documents are the same, but for numbers that are near."""
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(is_near(found[k], wanted[k]) for k in wanted)
        )
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(is_near, found, wanted))
    if isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(found == wanted)


TEXTS = ["a short text", "one that is quite a bit longer, so that others are padded", "x", "3 words here!"]


@pytest.mark.parametrize(
    ("model", "instances"),
    [
        ("letters", TEXTS),
        ("moods", TEXTS * 12),  # more than one batch
        ("names", TEXTS),
        ("topics", TEXTS),
        ("prices", TEXTS),
        ("follows", [[TEXTS[0], TEXTS[1]], [TEXTS[2], TEXTS[3]]]),
        ("likeness", [[TEXTS[0], TEXTS[1]], [TEXTS[2], TEXTS[3]]]),
        ("colours", [{"b64": base64.b64encode(picture(seed)).decode()} for seed in range(3)]),
    ],
)
def test_answers_are_those_of_a_server_that_computes_itself(
    remote: ServerProcess, spoken: Spoken, model: str, instances: list[object]
) -> None:
    found, wanted = remote.predict(model, instances), spoken.server.predict(model, instances)
    assert (found.status, wanted.status) == (200, 200), found.body
    assert is_near(found.json()["predictions"], wanted.json()["predictions"])


def test_a_server_says_who_computes(remote: ServerProcess, triton: TritonProcess) -> None:
    serving = remote.request("GET", "/v1/models/letters/metadata").json()["serving"]
    assert serving["engine"].startswith("triton/")
    assert serving["precision"] == "fp32"
    assert remote.metric("graftwork_triton_up") == {(triton.url,): 1}
    assert remote.metric("graftwork_triton_requests_total")[triton.url,] > 0


def test_grpc_is_in_the_worker_and_not_in_the_process_that_takes_requests(remote: ServerProcess) -> None:
    def maps(pid: int) -> str:
        return Path(f"/proc/{pid}/maps").read_text()

    (worker,) = remote.workers()
    assert "cygrpc" in maps(worker)
    assert "cygrpc" not in maps(remote.api())
    assert "cygrpc" not in maps(remote.process.pid)


def test_a_triton_that_hangs_keeps_nobody_longer_than_the_deadline_and_is_not_ready(
    remote: ServerProcess, triton: TritonProcess
) -> None:
    document = {
        "parameters": {"timeout": 500_000},
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}],
    }
    triton.pause()
    try:
        started = time.monotonic()
        reply = remote.request("POST", "/v2/models/letters/infer", json.dumps(document).encode())
        assert time.monotonic() - started < 10
        assert (reply.status, reply.code) == (504, "deadline_exceeded")
        wait_for(lambda: remote.status_of("/health/ready") == 503, 30, remote.text)
        assert remote.predict("letters", TEXTS).code == "engine_unavailable"
    finally:
        triton.resume()
    remote.wait_until_ready(30)
    assert remote.predict("letters", TEXTS).status == 200


class Load:
    """Asks as fast as it can, from several threads, until it is stopped."""

    def __init__(self, server: ServerProcess) -> None:
        self.replies: list[Reply] = []
        self._server = server
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(ASKERS)
        self._asking = [self._threads.submit(self._ask) for _ in range(ASKERS)]

    def _ask(self) -> None:
        while not self._stopped.is_set():
            self.replies.append(self._server.predict("letters", TEXTS))

    def wait_for(self, count: int, status: int) -> None:
        """Waits for so many more replies with a status."""
        start = len(self.replies)
        wait_for(lambda: sum(each.status == status for each in self.replies[start:]) >= count, 60, self._server.text)

    def stop(self) -> Counter[int]:
        """How many replies there were, by status."""
        self._stopped.set()
        for each in self._asking:
            each.result()
        self._threads.shutdown()
        return Counter(each.status for each in self.replies)


def test_a_triton_that_is_killed_under_load_is_503_and_not_ready_until_it_is_back(
    remote: ServerProcess, triton: TritonProcess
) -> None:
    workers = remote.workers()
    load = Load(remote)
    load.wait_for(20, 200)
    triton.kill()
    load.wait_for(20, 503)
    wait_for(lambda: remote.status_of("/health/ready") == 503, 30, remote.text)
    assert "none of 1 Triton servers is ready" in remote.request("GET", "/health/ready").json()["detail"]
    assert remote.metric("graftwork_triton_up") == {(triton.url,): 0}
    triton.restart()
    remote.wait_until_ready(30)
    load.wait_for(20, 200)
    assert set(load.stop()) == {200, 503}
    refused = [each for each in load.replies if each.status == 503]
    assert {each.code for each in refused} == {"engine_unavailable"}
    assert {each.headers["retry-after"] for each in refused} == {"1"}
    assert remote.workers() == workers
    assert remote.metric("graftwork_triton_failures_total")[triton.url,] > 0


def test_with_two_tritons_the_death_of_one_under_load_costs_no_request(offloaded: SimpleNamespace) -> None:
    with (
        ready_triton(offloaded.backbones) as first,
        ready_triton(offloaded.backbones) as second,
        offloading(offloaded, first, second) as server,
    ):
        load = Load(server)
        load.wait_for(50, 200)
        first.kill()
        load.wait_for(50, 200)
        first.restart()
        wait_for(lambda: server.metric("graftwork_triton_up") == {(first.url,): 1, (second.url,): 1}, 30, server.text)
        load.wait_for(50, 200)
        second.kill()
        load.wait_for(50, 200)
        assert set(load.stop()) == {200}
        assert server.status_of("/health/ready") == 200


def test_a_server_that_starts_before_its_triton_loads_its_models_once_that_is_there(offloaded: SimpleNamespace) -> None:
    triton = TritonProcess(repository=offloaded.backbones)
    try:
        triton.wait_until_ready()
        triton.kill()
        server = ServerProcess(
            repository=offloaded.repository, options=["--engine", "triton", "--triton-url", triton.url]
        )
        try:
            wait_for(lambda: b"Triton" in _readiness(server), 60, server.text)
            assert server.predict("letters", TEXTS).status == 503
            triton.start()
            server.wait_until_ready()
            assert server.predict("letters", TEXTS).status == 200
            assert {each["state"] for each in server.request("GET", "/v1/models/letters").json()["versions"]} == {
                "ready"
            }
        finally:
            server.destroy()
    finally:
        triton.destroy()


def _readiness(server: ServerProcess) -> bytes:
    return server.request("GET", "/health/ready").body if server.status_of("/health/ready") else b""
