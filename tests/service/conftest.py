"""Fixtures of the service."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from models.predictor import Predictor
from models.repository import ModelRepository
from service.api.application import Application
from service.auth.key import Scope
from service.auth.key_file import KeyFile
from service.settings import ServerSettings
from service.worker.registry import Registry
from tests.processes import free_port, wait_for
from tests.server_process import ServerProcess, ready_server
from tests.service.guarded import Guarded, bearer
from tests.service.nvml import Nvml
from tests.service.site import Play, Site
from tests.service.spoken import Spoken, words
from tests.tiny_models import TorchEngines, copy_of_texts


@pytest.fixture
def play(models_on_disk: Path) -> Play:
    """Runs a story on a site of its own: ``play(story, workers=1, **settings)``."""

    def run(story: Callable[[Site], Coroutine[Any, Any, None]], *, workers: int = 1, **settings: Any) -> None:
        async def on_stage() -> None:
            with (
                tempfile.TemporaryDirectory(prefix="gw-test-") as directory,
                socket.socket(socket.AF_UNIX) as listening,
            ):
                path = f"{directory}/workers.sock"
                listening.bind(path)
                listening.listen()
                server_settings = ServerSettings(**{"repository": models_on_disk, **settings})
                application = Application(server_settings, "0", listening, workers=max(1, workers))
                site = Site(application, path)
                async with asyncio.timeout(60), application.running():
                    try:
                        for _ in range(workers):
                            await site.start_worker()
                        await story(site)
                    finally:
                        site.stop_workers()

        asyncio.run(on_stage())

    return run


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    """NVIDIA's bindings on a machine with two GPUs."""
    module = Nvml(2)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


@pytest.fixture(scope="session")
def predictors(models_on_disk: Path) -> Mapping[str, Predictor]:
    """The models of the real server, in this process."""
    registry = Registry(ModelRepository(models_on_disk), TorchEngines())
    return {name: registry.load(name, 1).predictor for name in ("colours", "letters", "moods")}


@pytest.fixture(scope="session")
def guarded(models_on_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One server that asks for keys, for tests that leave it as it is."""
    root = tmp_path_factory.mktemp("guarded")
    copy_of_texts(models_on_disk, root / "repository")
    file = KeyFile(root / "keys.json")
    file.create("first", [Scope.ADMIN])
    with ready_server(root / "repository", "--keys", str(root / "keys.json")) as server:
        found = Guarded(server, file)
        wait_for(lambda: found.ask(bearer(found.predict)).status == 200, 10, server.text)
        yield found


@pytest.fixture(scope="session")
def spoken(models_on_disk: Path, tasks_on_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoken]:
    """One server of all tiny models over HTTP and gRPC, for tests that leave it as it is."""
    root = tmp_path_factory.mktemp("spoken") / "repository"
    for source in (models_on_disk, tasks_on_disk):
        shutil.copytree(source, root, dirs_exist_ok=True)
    port = free_port()
    with ready_server(root, "--grpc-port", str(port)) as server:
        yield Spoken(server, port)


@pytest.fixture
def nothing_dies(server: ServerProcess) -> Iterator[None]:
    """After every case the same worker answers the next request."""
    before = server.workers()
    yield
    assert server.workers() == before
    assert server.predict("letters", ["still there?"]).status == 200


@pytest.fixture
def nothing_dies_over_grpc(spoken: Spoken) -> Iterator[None]:
    """After every case the same worker of the server that speaks gRPC answers the next request."""
    before = spoken.server.workers()
    yield
    assert spoken.server.workers() == before
    assert spoken.infer("letters", {"text": words("still there?")}).as_numpy("label").shape == (1,)
