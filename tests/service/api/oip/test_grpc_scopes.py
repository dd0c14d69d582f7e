"""Who may call over gRPC."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2

from service.api.oip.grpc_scopes import HEALTH, INFERENCE, MODEL_INFER, REFLECTION, SCOPES
from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.service.api.oip.conftest import Called
from tests.service.api.oip.grpc_asking import Answered, ask, text_request
from tests.service.site import Site

OPEN = [f"/{INFERENCE}/ServerLive", f"/{INFERENCE}/ServerReady", f"/{HEALTH}/Check", f"/{HEALTH}/Watch"]
CHECK = f"/{HEALTH}/Check"


def methods(file: Any) -> set[str]:
    return {
        f"/{service.full_name}/{method.name}"
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def test_every_method_says_what_it_needs() -> None:
    known = methods(service_pb2) | methods(health_pb2) | methods(reflection_pb2)
    assert set(SCOPES) == known | {f"/{REFLECTION[1]}/ServerReflectionInfo"}


def test_what_is_open_is_health_only() -> None:
    assert {path for path, scope in SCOPES.items() if scope is None} == set(OPEN)
    assert {path for path, scope in SCOPES.items() if scope is Scope.ADMIN} == {
        f"/{INFERENCE}/RepositoryModelLoad",
        f"/{INFERENCE}/RepositoryModelUnload",
    }
    infers = {f"/{INFERENCE}/ModelStreamInfer", MODEL_INFER}
    assert {path for path, scope in SCOPES.items() if scope is Scope.PREDICT} == infers


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def guarded(called: Called, file: KeyFile, tmp_path: Path) -> Called:
    """A site that asks for keys."""

    def run(story: Any, **options: Any) -> None:
        called(story, keys=tmp_path / "keys.json", **options)

    return run


async def refused(made: Any, path: str, metadata: dict[str, str]) -> str | None:
    """Why it was refused for who asked, whichever kind of method it is."""
    call = made.unary_stream(path)(b"", metadata=tuple(metadata.items()), timeout=20)
    if path.endswith("/Watch"):
        await call.read()
        call.cancel()
        return None
    with suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    assert dict(await call.trailing_metadata())["x-request-id"]
    status = (await call.code()).name
    return status if status in ("UNAUTHENTICATED", "PERMISSION_DENIED") else None


def test_each_scope_opens_its_methods_and_no_other(guarded: Called, file: KeyFile) -> None:
    keys = {scope: file.create("test", [scope])[1] for scope in Scope}

    async def story(site: Site, made: Any) -> None:
        for path, needed in SCOPES.items():
            assert await refused(made, path, {}) == (None if needed is None else "UNAUTHENTICATED"), path
            for scope, key in keys.items():
                expected = None if needed in (None, scope) else "PERMISSION_DENIED"
                assert await refused(made, path, {"authorization": f"Bearer {key}"}) == expected, (path, scope)
                assert await refused(made, path, {"x-api-key": key}) == expected, (path, scope)

    guarded(story, workers=0)


def test_a_key_is_asked_for_before_the_message_is_read(guarded: Called, file: KeyFile) -> None:
    file.create("test", [Scope.PREDICT])

    async def story(site: Site, made: Any) -> None:
        call = made.stream_unary(MODEL_INFER)()  # its message never comes
        assert (await call.code()).name == "UNAUTHENTICATED"

    guarded(story, workers=0)


def test_a_key_over_its_rate_is_told_when_to_come_again(guarded: Called, file: KeyFile) -> None:
    key = file.create("test", [Scope.PREDICT], requests_per_second=0.25)[1]

    async def story(site: Site, made: Any) -> None:
        def again() -> Any:
            return ask(made, text_request(b"1"), metadata={"x-api-key": key})

        assert (await again()).status == "OK"
        answered: Answered = await again()
        assert (answered.status, answered.code) == ("RESOURCE_EXHAUSTED", "rate_limited")
        assert answered.trailers["retry-after"] == "4"

    guarded(story)


def test_whoever_has_no_key_is_not_told_which_models_there_are(guarded: Called, file: KeyFile) -> None:
    key = file.create("test", [Scope.METADATA])[1]

    async def story(site: Site, made: Any) -> None:
        for name, status in (("", "OK"), ("letters", "UNAUTHENTICATED"), ("nobody", "UNAUTHENTICATED")):
            assert (await ask(made, health_pb2.HealthCheckRequest(service=name), CHECK)).status == status
        for name, status in (("letters", "OK"), ("nobody", "NOT_FOUND")):
            request = health_pb2.HealthCheckRequest(service=name)
            assert (await ask(made, request, CHECK, metadata={"x-api-key": key})).status == status

    guarded(story)


def test_a_method_that_nobody_has_is_unimplemented(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        for path in (f"/{INFERENCE}/Everything", "/nobody/Everything", "/"):
            assert (await ask(made, b"", path)).status == "UNIMPLEMENTED"

    called(story, workers=0)
