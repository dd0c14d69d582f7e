"""A real Prometheus with the shipped rules scrapes a real server: what it records, and which alerts it raises."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.deploy.dashboard import PANELS, filled
from tests.deploy.measured import damage
from tests.deploy.prometheus_process import WINDOW, PrometheusProcess
from tests.deploy.prometheus_rules import RECORDS
from tests.processes import wait_for
from tests.server_process import ready_server
from tests.service.guarded import Guarded, bearer
from tests.tiny_models import copy_of_texts

OF_THIS_MACHINE = {"GraftworkDiskFull"}  # whatever becomes of the server
NO_TIME = {"x-request-timeout": "0.00001"}


@pytest.fixture(scope="module")
def guarded(models_on_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server that asks for keys, and that these tests may harm."""
    repository = tmp_path_factory.mktemp("scraped") / "repository"
    copy_of_texts(models_on_disk, repository)
    file = KeyFile(repository / ".keys.json")
    file.create("first", [Scope.ADMIN])
    with ready_server(repository, "--backbone-memory", "1GiB") as server:
        found = Guarded(server, file)
        wait_for(lambda: found.ask(bearer(found.predict)).status == 200, 10, server.text)
        yield found


@pytest.fixture(scope="module")
def watching(prometheus: str, guarded: Guarded) -> Iterator[PrometheusProcess]:
    process = PrometheusProcess(program=prometheus, target=guarded.server.port, key=guarded.metrics)
    yield process
    process.destroy()


@contextmanager
def requests(guarded: Guarded, **headers: str) -> Iterator[None]:
    """Somebody asks all the time."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.01):
            guarded.ask({**bearer(guarded.predict), **headers})

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def until_it_fires(watching: PrometheusProcess, *names: str) -> dict[str, dict[str, str]]:
    """All that fires, until each of some alerts has."""
    seen: dict[str, dict[str, str]] = {}

    def look() -> bool:
        seen.update(watching.firing())
        return set(names) <= set(seen)

    wait_for(look, 120, lambda: f"not {names}, but {seen}", pause=0.2)
    return seen


def until_all_is_quiet(watching: PrometheusProcess) -> None:
    wait_for(lambda: set(watching.firing()) <= OF_THIS_MACHINE, 120, lambda: f"{watching.firing()}", pause=0.2)


def test_it_records_what_the_server_does(guarded: Guarded, watching: PrometheusProcess) -> None:
    def recorded(name: str) -> dict[str, float]:
        found = watching.query(name)
        assert all(labels["job"] == "graftwork" for labels, _ in found)
        return {labels.get("model", ""): value for labels, value in found}

    with requests(guarded):
        wait_for(
            lambda: recorded("job_model:graftwork_requests:rate5m").get("letters", 0) > 1, 60, watching.log.read_text
        )
        wait_for(
            lambda: all(map(watching.query, RECORDS)), 60, lambda: f"{[n for n in RECORDS if not watching.query(n)]}"
        )
        assert watching.query("up") == [({"__name__": "up", **at(guarded)}, 1)]
        assert watching.query("graftwork_ready")[0][1] == 1
        quantiles = [recorded(f"job_model:graftwork_request_seconds:{p}")["letters"] for p in ("p50", "p95", "p99")]
        assert 0 < quantiles[0] <= quantiles[1] <= quantiles[2] <= 30
        rate = recorded("job_model:graftwork_requests:rate5m")["letters"]
        assert recorded("job_model:graftwork_rows:rate5m")["letters"] == pytest.approx(rate, rel=0.5)  # a row each
        assert recorded("job:graftwork_errors:ratio_rate5m") == {"": 0}
        assert 0 <= recorded("job_model:graftwork_queue_seconds:ratio_rate5m")["letters"] < 1
        ((labels, rows),) = watching.query("job_backbone:graftwork_batch_size_rows:mean5m")
        assert len(labels["backbone"]) == 12
        assert 1 <= rows < 2  # one after another
        assert 0 < watching.query("instance:graftwork_backbone_bytes:ratio")[0][1] < 1
    assert watching.rule_errors() == []
    until_all_is_quiet(watching)


def test_every_query_of_the_dashboard_finds_something(guarded: Guarded, watching: PrometheusProcess) -> None:
    def empty() -> list[str]:
        found = [
            f"{panel['title']}: {query}"
            for panel in PANELS
            for query in (filled(target["expr"], WINDOW) for target in panel["targets"])
            if not watching.query(query)
        ]
        of_others = ("graftwork_gpu_", "graftwork_triton_")  # a server that computes on a CPU says nothing of them
        return [each for each in found if not any(name in each for name in of_others)]

    assert guarded.ask({}).status == 401
    with requests(guarded, **NO_TIME), requests(guarded):
        wait_for(lambda: not empty(), 60, lambda: "\n".join(empty()), pause=0.5)
    until_all_is_quiet(watching)


def at(guarded: Guarded) -> dict[str, str]:
    return {"job": "graftwork", "instance": f"127.0.0.1:{guarded.server.port}"}


def test_a_key_that_may_not_read_metrics_is_a_server_that_is_down(prometheus: str, guarded: Guarded) -> None:
    process = PrometheusProcess(program=prometheus, target=guarded.server.port, key=guarded.predict)
    try:
        assert until_it_fires(process, "GraftworkDown")["GraftworkDown"]["severity"] == "critical"
    finally:
        process.destroy()


def test_requests_without_an_answer_burn_the_objective(guarded: Guarded, watching: PrometheusProcess) -> None:
    until_all_is_quiet(watching)
    assert guarded.ask({**bearer(guarded.predict), **NO_TIME}).status == 504
    with requests(guarded, **NO_TIME), requests(guarded):
        until_it_fires(watching, "GraftworkAvailabilityBurnsFast", "GraftworkAvailabilityBurnsSlowly")
        assert 0.1 < watching.query("job:graftwork_errors:ratio_rate5m")[0][1] < 0.9
    until_all_is_quiet(watching)


def test_a_version_that_cannot_be_loaded(guarded: Guarded, watching: PrometheusProcess) -> None:
    until_all_is_quiet(watching)
    repository = guarded.server.repository
    damage(repository)
    (repository / ".generation").write_text("damaged")
    alert = until_it_fires(watching, "GraftworkVersionFailed")["GraftworkVersionFailed"]
    assert (alert["model"], alert["version"]) == ("letters", "7")
    shutil.rmtree(repository / "letters" / "7")
    (repository / ".generation").write_text("repaired")
    until_all_is_quiet(watching)


def test_a_worker_that_is_gone(guarded: Guarded, watching: PrometheusProcess) -> None:
    until_all_is_quiet(watching)
    (worker,) = guarded.server.workers()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: guarded.server.workers() not in ([], [worker]), 60, guarded.server.text, pause=0.01)
    (successor,) = guarded.server.workers()
    os.kill(successor, signal.SIGSTOP)  # a fast machine would have it back before anybody has looked twice
    try:
        until_it_fires(watching, "GraftworkWorkersMissing", "GraftworkNotReady")
    finally:
        os.kill(successor, signal.SIGCONT)
    until_all_is_quiet(watching)
    ((_, deaths),) = watching.query("graftwork_worker_deaths_total")
    assert deaths == 1


def test_a_server_that_is_gone(guarded: Guarded, watching: PrometheusProcess) -> None:
    """The last one: nothing is there afterwards."""
    until_all_is_quiet(watching)
    guarded.server.process.terminate()
    assert guarded.server.process.wait(60) == 0
    assert until_it_fires(watching, "GraftworkDown")["GraftworkDown"] == {
        "alertname": "GraftworkDown",
        "severity": "critical",
        **at(guarded),
    }
