"""Health and reflection over gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from service.api.oip import grpc_health
from service.api.oip.grpc_scopes import HEALTH, INFERENCE, REFLECTION
from tests.service.api.oip.conftest import Called
from tests.service.api.oip.grpc_asking import ask
from tests.service.site import Site

CHECK, WATCH = f"/{HEALTH}/Check", f"/{HEALTH}/Watch"
Status = health_pb2.HealthCheckResponse.ServingStatus


def asked(name: str) -> bytes:
    return bytes(health_pb2.HealthCheckRequest(service=name).SerializeToString())


def status(message: bytes) -> str:
    return str(Status.Name(health_pb2.HealthCheckResponse.FromString(message).status))


def test_the_server_and_its_models_have_a_health_each(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        for name in ("", INFERENCE, "letters", "moods"):
            assert status((await ask(made, asked(name), CHECK)).data) == "SERVING"
        assert (
            status((await ask(made, asked("colours"), CHECK)).data) == "NOT_SERVING"
        )  # its version cannot be loaded here
        answered = await ask(made, asked("nobody"), CHECK)
        assert (answered.status, answered.code) == ("NOT_FOUND", "model_not_found")

    called(story)


def test_a_server_that_is_not_ready_does_not_serve(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        for name in ("", "letters"):
            assert status((await ask(made, asked(name), CHECK)).data) == "NOT_SERVING"

    called(story, workers=0)


def test_a_watcher_is_told_each_change_and_the_end(called: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_health, "LOOK_SECONDS", 0.01)

    async def story(site: Site, made: Any) -> None:
        watched = {name: made.unary_stream(WATCH)(asked(name)) for name in ("", "letters", "nobody")}
        told = {name: [status(await call.read())] for name, call in watched.items()}
        assert told == {"": ["NOT_SERVING"], "letters": ["NOT_SERVING"], "nobody": ["NOT_SERVING"]}
        await site.start_worker()
        for name, call in watched.items():
            told[name].append(status(await call.read()))
        assert {name: each[1] for name, each in told.items()} == {
            "": "SERVING",
            "letters": "SERVING",
            "nobody": "SERVICE_UNKNOWN",
        }
        site.application._drain()
        for call in watched.values():
            assert status(await call.read()) == "NOT_SERVING"
            assert (await call.code()).name == "OK"

    called(story, workers=0)


def test_there_are_only_so_many_watchers(called: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_health, "MOST_WATCHERS", 1)
    monkeypatch.setattr(grpc_health, "LOOK_SECONDS", 0.01)

    async def story(site: Site, made: Any) -> None:
        first = made.unary_stream(WATCH)(asked(""))
        await first.read()
        second = made.unary_stream(WATCH)(asked(""))
        assert (await second.code()).name == "UNAVAILABLE"
        first.cancel()
        while (await made.unary_stream(WATCH)(asked("")).read()) is None:
            await asyncio.sleep(0.001)

    called(story, workers=0)


@pytest.mark.parametrize("path", [CHECK, WATCH])
def test_a_name_that_does_not_come_is_given_up_soon(called: Called, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(grpc_health, "READ_SECONDS", 0.05)

    async def story(site: Site, made: Any) -> None:
        call = made.stream_stream(path)()
        assert (await call.code()).name == "DEADLINE_EXCEEDED"
        assert await call.details() == "request_timeout: the message did not come within 0.05 s"

    called(story, workers=0)


def test_only_so_many_names_are_waited_for(called: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_health, "MOST_READ", 2)

    async def story(site: Site, made: Any) -> None:
        waiting = [made.stream_stream(path)() for path in (CHECK, WATCH)]
        server = site.application._grpc
        assert server is not None
        while server._health._read < 2:
            await asyncio.sleep(0.001)
        answered = await ask(made, asked(""), CHECK)
        assert (answered.status, answered.code) == ("UNAVAILABLE", "overloaded")
        assert (await ask(made, b"", f"/{INFERENCE}/ServerLive")).status == "OK"
        waiting[0].cancel()
        await waiting[1].write(asked(""))
        assert status(await waiting[1].read()) == "NOT_SERVING"  # and it is no longer waited for
        while (await ask(made, asked(""), CHECK)).status != "OK":
            await asyncio.sleep(0.001)

    called(story, workers=0)


@pytest.mark.parametrize("name", REFLECTION)
def test_reflection_describes_the_services(called: Called, name: str) -> None:
    async def story(site: Site, made: Any) -> None:
        call = made.stream_stream(f"/{name}/ServerReflectionInfo")()
        for request in (
            ServerReflectionRequest(list_services=""),
            ServerReflectionRequest(file_containing_symbol=INFERENCE),
            ServerReflectionRequest(file_by_filename="/etc/passwd"),
        ):
            await call.write(request.SerializeToString())
        await call.done_writing()
        services, file, missing = [ServerReflectionResponse.FromString(each) async for each in call]
        assert {each.name for each in services.list_services_response.service} == {INFERENCE, HEALTH, REFLECTION[0]}
        assert b"ModelInferRequest" in b"".join(file.file_descriptor_response.file_descriptor_proto)
        assert missing.error_response.error_code == 5

        call = made.stream_stream(f"/{name}/ServerReflectionInfo")()
        await call.write(b"\xff" * 9)
        assert (await call.code()).name == "INVALID_ARGUMENT"

    called(story, workers=0)


@pytest.mark.parametrize("name", REFLECTION)
def test_every_service_that_is_listed_can_be_described_with_all_that_it_needs(called: Called, name: str) -> None:
    async def story(site: Site, made: Any) -> None:
        async def answer(**question: str) -> Any:
            message = ServerReflectionRequest(**question).SerializeToString()
            call = made.stream_stream(f"/{name}/ServerReflectionInfo")()
            await call.write(message)
            await call.done_writing()
            return ServerReflectionResponse.FromString(await call.read())

        services = (await answer(list_services="")).list_services_response.service
        assert len(services) == 3
        for service in services:
            pool, files = DescriptorPool(), {}
            for data in (
                await answer(file_containing_symbol=service.name)
            ).file_descriptor_response.file_descriptor_proto:
                file = FileDescriptorProto.FromString(data)
                files[file.name] = file
            while files:  # a pool takes no file whose dependencies it does not have
                ready = [each for each in files.values() if not set(each.dependency) & set(files)]
                for file in ready:
                    pool.Add(files.pop(file.name))
            assert pool.FindServiceByName(service.name).methods

    called(story, workers=0)
