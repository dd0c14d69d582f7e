"""Statistics, and loading and unloading, over gRPC."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from models.errors import NotSupported
from service.api.oip import grpc_service
from service.api.oip.grpc_scopes import INFERENCE
from service.api.oip.grpc_service import InferenceService
from service.api.oip.model_control import SERVED_AS_IT_IS
from tests.service.api.oip.conftest import Called
from tests.service.api.oip.grpc_asking import ask
from tests.service.site import Site

UNARY = f"/{INFERENCE}/"


class Control:
    """Statistics and the repository extension, which remember what they are asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def document(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        self.asked.append((name, version))
        return {"model_stats": [{"name": "letters", "version": "1", "inference_count": 3}]}

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        self.asked.append(ready)
        return [{"name": "letters", "version": "1", "state": "READY", "reason": ""}]

    async def load(self, name: str, parameters: Iterable[str], *, who: str, request_id: str) -> None:
        self.asked.append(("load", name, list(parameters), who, request_id))

    def unload(self, name: str, parameters: Iterable[str], *, who: str, request_id: str) -> None:
        self.asked.append(("unload", name, list(parameters), who, request_id))
        raise NotSupported("not here")


REPOSITORY = [
    ("ModelStatistics", service_pb2.ModelStatisticsRequest(name="letters", version="1")),
    ("RepositoryIndex", service_pb2.RepositoryIndexRequest(ready=True)),
    ("RepositoryModelLoad", service_pb2.RepositoryModelLoadRequest(model_name="letters")),
    ("RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name="letters")),
]


def test_statistics_and_control_of_models_are_what_they_are_elsewhere(
    called: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Control()
    REPOSITORY[3][1].parameters["unload_dependents"].bool_param = True
    make = InferenceService.__init__

    def with_control(self: InferenceService, *arguments: Any) -> None:
        make(self, *arguments[:4], control, control)  # type: ignore[arg-type]

    monkeypatch.setattr(InferenceService, "__init__", with_control)

    async def story(site: Site, made: Any) -> None:
        found = [await ask(made, each, UNARY + method, metadata={"x-request-id": "r"}) for method, each in REPOSITORY]
        assert [each.status for each in found] == ["OK", "OK", "OK", "UNIMPLEMENTED"]
        statistics = service_pb2.ModelStatisticsResponse.FromString(found[0].data)
        assert statistics.model_stats[0].inference_count == 3
        assert service_pb2.RepositoryIndexResponse.FromString(found[1].data).models[0].state == "READY"
        everything = service_pb2.ModelStatisticsRequest()
        assert (await ask(made, everything, UNARY + "ModelStatistics")).status == "OK"

    threads: list[bool] = []
    parse_dict = grpc_service.ParseDict

    def parse(*arguments: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return parse_dict(*arguments)

    monkeypatch.setattr(grpc_service, "ParseDict", parse)
    called(story, workers=0)
    assert threads == [False] * 3  # others do not wait for the documents of a thousand models
    assert control.asked == [
        ("letters", "1"),
        True,
        ("load", "letters", [], "anyone", "r"),
        ("unload", "letters", ["unload_dependents"], "anyone", "r"),
        (None, ""),
    ]


def test_files_for_a_model_are_refused_however_large_they_are(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        for size in (10, 5000):
            request = service_pb2.RepositoryModelLoadRequest(model_name="letters")
            request.parameters["file:1/model.onnx"].bytes_param = bytes(size)
            answered = await ask(made, request, UNARY + "RepositoryModelLoad")
            assert (answered.status, answered.code) == ("UNIMPLEMENTED", "not_supported")
            assert SERVED_AS_IT_IS in answered.details
        answered = await ask(made, bytes(5000), UNARY + "RepositoryModelUnload")
        assert (answered.status, answered.code) == ("INVALID_ARGUMENT", "body_too_large")

    called(story, workers=0, max_json_bytes=4096, model_control="explicit")
