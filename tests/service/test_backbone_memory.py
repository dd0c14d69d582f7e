"""More backbones than a worker may hold: each of them answers, and the worker never holds more."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.predictor import Predictor
from models.repository import ModelRepository
from service.worker.registry import Registry
from tests.processes import wait_for
from tests.server_process import ServerProcess, ready_server
from tests.tiny_models import TorchEngines, publish_texts, write_tiny_text

MODELS = ("first", "second", "third", "fourth")
LABELS = ("no", "yes")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """Four models, each on a backbone of its own."""
    repository = ModelRepository(tmp_path_factory.mktemp("memory") / "repository")
    for seed, name in enumerate(MODELS):
        publish_texts(repository, write_tiny_text(tmp_path_factory.mktemp(name)), name, LABELS, seed=seed)
    return repository


@pytest.fixture(scope="module")
def server(repository: ModelRepository) -> Iterator[ServerProcess]:
    """Two workers, with memory for two of the four."""
    sizes = {stored.size_bytes for stored in repository.backbones.list()}
    budget = 2 * max(sizes) + min(sizes) // 2
    with ready_server(repository.root, "--workers", "2", f"--backbone-memory={budget}") as server:
        yield server


def states(server: ServerProcess) -> list[str]:
    """Those of the models, sorted."""
    return sorted(server.request("GET", f"/v1/models/{name}").json()["versions"][0]["state"] for name in MODELS)


def test_each_of_them_answers_while_two_are_held(server: ServerProcess, repository: ModelRepository) -> None:
    registry = Registry(repository, TorchEngines())
    here = {name: registry.load(name, 1).predictor for name in MODELS}
    wait_for(lambda: states(server) == ["on-demand", "on-demand", "ready", "ready"], 60, server.text)

    def check(number: int) -> int:
        name = MODELS[(number * 7) % len(MODELS)]
        return answered(server, here[name], name, f"text {number}")

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(check, range(60))) == {200}
    assert states(server) == ["on-demand", "on-demand", "ready", "ready"]
    limit = server.metric("graftwork_backbone_budget_bytes")[()]
    assert 0 < server.metric("graftwork_backbone_bytes")[()] <= limit
    evictions, returns = server.metric("graftwork_evictions_total"), server.metric("graftwork_on_demand_loads_total")
    assert sum(returns.values()) >= 2  # both that had no room at the start
    assert sum(evictions.values()) == sum(returns.values())
    assert len(server.metric("graftwork_loaded_versions")) == 2


def answered(server: ServerProcess, predictor: Predictor, name: str, text: str) -> int:
    """The status of an answer, which is the model's own."""
    reply = server.predict(name, [text])
    if reply.status == 200:
        scores = reply.json()["predictions"][0]["scores"]
        assert [scores[label] for label in LABELS] == pytest.approx(predictor.predict([text])[0].tolist(), abs=1e-5)
    return reply.status


def test_a_deadline_holds_for_whoever_waits_for_memory(server: ServerProcess) -> None:
    waiting = [
        name
        for name in MODELS
        if server.request("GET", f"/v1/models/{name}").json()["versions"][0]["state"] == "on-demand"
    ]
    late = server.predict(waiting[0], ["a"], **{"X-Request-Timeout": "0.001"})
    assert (late.status, late.json()["code"]) == (504, "deadline_exceeded")
    assert server.predict(waiting[0], ["a"]).status == 200
