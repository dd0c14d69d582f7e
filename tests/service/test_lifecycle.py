"""How a real server starts, changes, suffers and ends. Each test leaves its server ready, or dead."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from models.aliases import promote
from models.predictor import Predictor
from models.repository import ModelRepository
from models.version import Reference
from service.flight_record import FlightRecord
from service.worker.registry import Registry
from tests.processes import children, process_state, wait_for
from tests.server_process import Reply, ServerProcess
from tests.service.asking import in_flight, load, requests_in_flight
from tests.tiny_models import LETTERS, TorchEngines, copy_of_texts, publish_texts

Start = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts servers over empty repositories; one of the same name and options is shared while it lives."""
    servers: dict[tuple[str, ...], ServerProcess] = {}

    def make(*name_and_options: str, fresh: bool = False) -> ServerProcess:
        server = servers.get(name_and_options)
        if server is None or fresh or server.process.poll() is not None:
            if server is not None:
                server.destroy()
            name, *options = name_and_options
            server = ServerProcess(repository=tmp_path_factory.mktemp(name) / "repository", options=options)
            servers[name_and_options] = server
        return server

    yield make
    for server in servers.values():
        server.destroy()


def with_models(server: ServerProcess, models_on_disk: Path) -> ServerProcess:
    """Puts the text models where a server finds them, unless it has them, and waits until it serves them."""
    if not server.repository.exists():
        copy_of_texts(models_on_disk, server.repository)
    server.wait_until_ready()
    for name in ("letters", "moods"):
        wait_for(partial(has_state, server, name, 1, "ready"), 90, server.text)
    return server


@pytest.fixture
def lone(start: Start, models_on_disk: Path) -> ServerProcess:
    """A ready server with one worker."""
    return with_models(start("lone"), models_on_disk)


@pytest.fixture
def pair(start: Start, models_on_disk: Path) -> ServerProcess:
    """A ready server with two workers, both of which have loaded everything."""
    server = with_models(start("pair", "--workers", "2"), models_on_disk)
    wait_for(lambda: both_answer(server), 90, server.text)
    return server


def states(server: ServerProcess, model: str) -> Mapping[int, str]:
    reply = server.request("GET", f"/v1/models/{model}")
    return {} if reply.status == 404 else {entry["version"]: entry["state"] for entry in reply.json()["versions"]}


def has_state(server: ServerProcess, model: str, number: int, state: str) -> bool:
    return states(server, model).get(number) == state


def both_answer(server: ServerProcess) -> bool:
    """Whether requests at the same time go to two workers."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: server.predict("letters", [f"{number}"]), range(8)))
    records = {path.name: path for path in server.directory.glob("tmp/*/flight-*")}
    pids = server.workers()
    return len(pids) == 2 and all(FlightRecord.has_answered(records[f"flight-{pid}"]) for pid in pids)


def is_gone(pid: int) -> bool:
    return process_state(pid) in "ZX"


def check_that_nothing_is_left(server: ServerProcess) -> None:
    """No process of the server runs, its port is free and its files are gone."""
    wait_for(lambda: not server.survivors(), 2, lambda: str(server.survivors()))
    with socket.create_server(("127.0.0.1", server.port)):
        pass
    assert server.runtime_files() == []


# The repository changes


def test_an_empty_repository_is_ready_and_later_served(start: Start, models_on_disk: Path) -> None:
    server = start("lone", fresh=True)
    server.wait_until_ready()
    assert server.request("GET", "/v1/models").json()["models"] == []
    assert not server.repository.exists()  # a server writes nothing
    with_models(server, models_on_disk)
    Copies(ModelRepository(server.repository)).check(server.predict("letters", ["better late"]), "better late")


class Copies:
    """The same versions in this process, to know what each of them must answer."""

    def __init__(self, repository: ModelRepository) -> None:
        self._registry = Registry(repository, TorchEngines())
        self._predictors: dict[tuple[str, int], Predictor] = {}

    def check(self, reply: Reply | None, text: str) -> int:
        """Returns the number of the version that answered, as it must have."""
        assert reply is not None
        assert reply.status == 200, reply.body
        document = reply.json()
        key = document["model"], document["version"]
        if key not in self._predictors:
            self._predictors[key] = self._registry.load(*key).predictor
        predictor = self._predictors[key]
        found = [document["predictions"][0]["scores"][label] for label in predictor.labels]
        assert found == pytest.approx(predictor.predict([text])[0].tolist(), abs=1e-5)
        return int(document["version"])


def test_versions_come_and_go_while_requests_are_answered(lone: ServerProcess, tiny_text: str) -> None:
    repository = ModelRepository(lone.repository)
    copies = Copies(repository)

    def is_answered_by(number: int) -> bool:
        return bool(lone.predict("letters", ["which one?"]).json()["version"] == number)

    with load(lone, "letters", threads=2) as asked:
        new = publish_texts(repository, tiny_text, "letters", LETTERS, seed=11).number
        wait_for(partial(is_answered_by, new), 10, lone.text)
        for champion in (1, new, 1):
            promote(repository, Reference(name="letters", number=champion), "champion")
            wait_for(partial(is_answered_by, champion), 10, lone.text)
            labelled = lone.request("POST", "/v1/models/letters/labels/champion:predict", b'{"instances": ["a"]}')
            assert copies.check(labelled, "a") == champion
        other = lone.request("POST", f"/v1/models/letters/versions/{new}:predict", b'{"instances": ["a"]}')
        assert copies.check(other, "a") == new
    assert {copies.check(each.reply, each.text) for each in asked} == {1, new}  # nothing failed, nothing is mixed up

    repository.delete(Reference(name="letters", number=new))
    wait_for(lambda: new not in states(lone, "letters"), 10, lone.text)
    gone = lone.request("POST", f"/v1/models/letters/versions/{new}:predict", b'{"instances": ["a"]}')
    assert (gone.status, gone.json()["code"]) == (404, "version_not_found")
    assert copies.check(lone.predict("letters", ["a"]), "a") == 1
    assert ("letters", str(new)) not in lone.metric("graftwork_loaded_versions")


def test_l11_a_corrupt_version_is_not_served_says_why_and_harms_no_other(lone: ServerProcess) -> None:
    root = lone.repository
    damages: dict[str, Callable[[Path], object]] = {
        "flipped": lambda directory: flip(directory / "head.safetensors"),
        "shortened": lambda directory: shorten(directory / "head.safetensors"),
        "missing": lambda directory: (directory / "golden" / "expected.json").unlink(),
        "extra": lambda directory: (directory / "code.pkl").write_bytes(b"cos\nsystem\n"),
        "unreadable": lambda directory: shorten(directory / "manifest.json"),
        "misplaced": lambda directory: None,
    }
    for name, damage in damages.items():
        directory = root / name / "1"
        shutil.copytree(root / "moods" / "1", directory)
        manifest = json.loads((directory / "manifest.json").read_bytes())
        if name != "misplaced":
            manifest["name"] = name
        (directory / "manifest.json").write_text(json.dumps(manifest))
        damage(directory)
    (root / ".generation").write_bytes(b"by hand")
    for name in damages:
        wait_for(partial(has_state, lone, name, 1, "failed"), 10, lone.text)
        reason = lone.request("GET", f"/v1/models/{name}").json()["versions"][0]["reason"]
        assert reason
        assert str(root) not in reason
        refused = lone.predict(name, ["a"])
        assert (refused.status, refused.json()["code"]) == (422, "version_corrupt")
        assert refused.json()["detail"] == f"{name}:1 is not served: {reason}"
    assert lone.status_of("/health/ready") == 200
    for healthy in ("letters", "moods"):
        assert lone.predict(healthy, ["a"]).status == 200


def flip(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


# Workers die


def test_l02_the_only_worker_is_killed(lone: ServerProcess) -> None:
    (worker,) = lone.workers()
    with requests_in_flight(lone, 8, [worker]) as asked:
        killed = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        replies = [future.result(timeout=10) for future in asked]
        assert time.monotonic() - killed < 1
    for reply in replies:
        assert reply.status == 503
        assert reply.json()["code"] in ("worker_lost", "not_ready")
        assert int(reply.headers["retry-after"]) >= 1
    assert lone.status_of("/health/ready") == 503
    assert lone.status_of("/health/live") == 200
    assert lone.metric("graftwork_workers") == {(): 0}
    lone.wait_until_ready()
    assert lone.predict("letters", ["again"]).status == 200
    assert worker not in lone.workers()
    assert in_flight(lone) == 0


def test_l01_one_of_two_workers_is_killed_and_nobody_notices(pair: ServerProcess) -> None:
    victim, other = pair.workers()
    with requests_in_flight(pair, 16, [victim, other]) as asked:
        os.kill(other, signal.SIGCONT)
        wait_for(lambda: sum(future.done() for future in asked) == 8, 10, pair.text)  # the other worker's share
        with load(pair, "letters", threads=4) as loaded:
            os.kill(victim, signal.SIGKILL)
            assert [future.result(timeout=10).status for future in asked] == [200] * 16
            wait_for(lambda: len(pair.workers()) == 2 and victim not in pair.workers(), 10, pair.text)
    assert {each.status for each in loaded} == {200}
    assert pair.status_of("/health/ready") == 200
    assert other in pair.workers()


# The server ends


def test_l05_the_api_process_is_killed(start: Start) -> None:
    server = start("headless")
    wait_for(lambda: server.status_of("/health/live") == 200, 30, server.text)
    os.kill(server.api(), signal.SIGKILL)
    assert server.process.wait(5) == 1
    check_that_nothing_is_left(server)


@pytest.mark.parametrize("when", ["early", "late"])
def test_l05_the_parent_is_killed(start: Start, when: str) -> None:
    server = start("orphans")
    wait_for(lambda: server.status_of("/health/live") == 200, 30, server.text)
    if when == "late":
        server.wait_until_ready()
    family = [*server.workers(), server.api()]
    assert len(family) == 2
    server.process.kill()
    wait_for(lambda: all(map(is_gone, family)) and server.status_of("/health/live") == 0, 2, server.text)
    with socket.create_server(("127.0.0.1", server.port)):
        pass


def test_l08_sigterm_under_load_answers_what_was_accepted(lone: ServerProcess) -> None:
    (worker,) = lone.workers()
    idle = http.client.HTTPConnection("127.0.0.1", lone.port, timeout=10)
    idle.request("GET", "/health/live")
    idle.getresponse().read()
    with load(lone, "moods", threads=4) as loaded, requests_in_flight(lone, 8, [worker], others=4) as asked:
        lone.process.send_signal(signal.SIGTERM)
        wait_for(lambda: lone.status_of("/health/ready") == 503, 1, lone.text)  # while new connections are still taken
        wait_for(lambda: lone.status_of("/health/live") == 0, 5, lone.text)  # and then they are not
        assert not any(future.done() for future in asked)
        os.kill(worker, signal.SIGCONT)
        assert [future.result(timeout=10).status for future in asked] == [200] * 8
        assert lone.process.wait(10) == 0
    idle.close()
    check_that_nothing_is_left(lone)
    answered = {each.id: each.status for each in loaded if each.status is not None}
    reached = {str(r["request_id"]): r["status"] for r in lone.records() if "request_id" in r and r["model"] == "moods"}
    assert set(answered.values()) == {200}
    assert {name: status for name, status in reached.items() if name.startswith("load-")} == answered
    assert "Traceback" not in lone.text()


def test_l08_a_second_sigterm_is_a_fast_end(pair: ServerProcess) -> None:
    with requests_in_flight(pair, 4, pair.workers()) as asked:
        pair.process.send_signal(signal.SIGTERM)
        wait_for(lambda: pair.status_of("/health/live") == 0, 5, pair.text)
        assert pair.process.poll() is None
        pair.process.send_signal(signal.SIGTERM)
        assert pair.process.wait(2) == 1
        for future in asked:
            with pytest.raises((OSError, http.client.HTTPException)):
                future.result(timeout=5)
    check_that_nothing_is_left(pair)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_l09_a_server_that_still_loads_ends_at_once(start: Start, number: signal.Signals) -> None:
    server = start(f"early-{number.name}")
    wait_for(lambda: server.status_of("/health/live") == 200, 30, server.text)
    os.killpg(server.process.pid, number)  # as Ctrl-C and service managers do: everyone gets it
    assert server.process.wait(5) == 0
    check_that_nothing_is_left(server)


def test_a_server_that_is_told_to_end_before_it_listens_does(start: Start) -> None:
    server = start("unborn")
    wait_for(lambda: len(children(server.process.pid)) > 0, 30, server.text)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    check_that_nothing_is_left(server)
