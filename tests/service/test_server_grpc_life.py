"""How a real server that serves gRPC ends."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from models.errors import InvalidParameter
from service.api.oip.grpc_scopes import HEALTH, MODEL_INFER
from tests.processes import free_port, wait_for
from tests.server_process import ServerProcess, ready_server
from tests.service.api.oip.grpc_asking import ask, channel, text_request
from tests.service.asking import in_flight
from tests.service.site import Play, Site
from tests.tiny_models import copy_of_texts

CHECK, WATCH = f"/{HEALTH}/Check", f"/{HEALTH}/Watch"


@pytest.fixture
def repository(models_on_disk: Path, tmp_path: Path) -> Path:
    copy_of_texts(models_on_disk, tmp_path / "repository")
    return tmp_path / "repository"


async def until(condition: Any) -> None:
    await asyncio.to_thread(wait_for, condition, 10)


def is_serving(message: bytes) -> bool:
    return bool(health_pb2.HealthCheckResponse.FromString(message).status == health_pb2.HealthCheckResponse.SERVING)


def is_gone(server: ServerProcess) -> bool:
    return server.process.poll() is not None and not server.survivors()


def test_l08_sigterm_answers_what_was_accepted_over_grpc(repository: Path) -> None:
    port = free_port()

    async def story(server: ServerProcess) -> None:
        (worker,) = server.workers()
        async with channel(port) as made, channel(port) as watching:
            watch = watching.unary_stream(WATCH)(b"")
            assert is_serving(await watch.read())
            os.kill(worker, signal.SIGSTOP)
            asked = [asyncio.create_task(ask(made, text_request(b"%d" % number))) for number in range(20)]
            await until(lambda: in_flight(server) == 20)
            server.process.send_signal(signal.SIGTERM)
            assert not is_serving(await watch.read())  # while calls are still taken
            assert not is_serving((await ask(made, b"", CHECK)).data)
            asked.append(asyncio.create_task(ask(made, text_request(b"late"))))
            await until(lambda: in_flight(server) == 21)
            await until(lambda: server.status_of("/health/live") == 0)
            async with channel(port) as late:
                assert (await ask(late, text_request(b"too late"), timeout=5)).status == "UNAVAILABLE"
            assert not any(task.done() for task in asked)
            os.kill(worker, signal.SIGCONT)
            assert [(await task).status for task in asked] == ["OK"] * 21
            assert await asyncio.to_thread(server.process.wait, 10) == 0  # though clients are connected

    with ready_server(repository, "--grpc-port", str(port)) as server:
        asyncio.run(story(server))
        wait_for(lambda: is_gone(server), 5)
        assert server.runtime_files() == []
        lines = [each for each in server.records() if each.get("path") == MODEL_INFER]
        assert [each["status"] for each in lines] == [200] * 21
        for complaint in ("Traceback", "is killed", '"level":"error"'):
            assert complaint not in server.text()


def test_calls_that_outlast_the_time_to_drain_are_cut_off_and_the_exit_code_says_so(repository: Path) -> None:
    port = free_port()

    async def story(server: ServerProcess) -> None:
        async with channel(port) as made:
            for worker in server.workers():
                os.kill(worker, signal.SIGSTOP)
            asked = asyncio.create_task(ask(made, text_request(b"1"), timeout=60))
            await until(lambda: in_flight(server) == 1)
            server.process.send_signal(signal.SIGTERM)
            await until(lambda: server.status_of("/health/live") == 0)
            server.process.send_signal(signal.SIGTERM)  # a second one is a fast end
            assert await asyncio.to_thread(server.process.wait, 5) == 1
            assert (await asked).status == "UNAVAILABLE"

    with ready_server(repository, "--grpc-port", str(port)) as server:
        asyncio.run(story(server))
        wait_for(lambda: is_gone(server), 5)


def test_what_is_not_answered_when_the_time_is_over_is_cut_off(play: Play) -> None:
    port = free_port()

    async def story(site: Site) -> None:
        async with channel(port) as made:
            site.engine.gate.clear()
            asked = asyncio.create_task(ask(made, text_request(b"1"), timeout=60))
            await site.until("graftwork_in_flight_rows", value=1)
            assert site.application._grpc is not None
            await site.application._grpc.stop()
            assert (await asked).status in ("UNAVAILABLE", "CANCELLED")
            assert site.application.cut_off == 1
            await site.until("graftwork_in_flight_rows", value=0)
            assert await site.outcomes() == {("letters", "failed", "1"): 1}

    play(story, grpc_port=port, drain_seconds=0)


def test_a_port_that_was_taken_meanwhile_ends_the_server_with_a_clear_message(play: Play, repository: Path) -> None:
    port = free_port()

    async def story(site: Site) -> None:
        with pytest.raises(InvalidParameter, match=f"cannot listen on 127.0.0.1:{port}; try another --grpc-port"):
            await site.application._start_grpc()

    play(story, grpc_port=port, workers=0)
