"""``inference.GRPCInferenceService``, on an application in this process."""

from __future__ import annotations

import math
from array import array
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2

from service.api.oip.grpc_scopes import INFERENCE, SCOPES
from service.api.oip.tensor import iterate_elements
from tests.service.api.oip.conftest import Called
from tests.service.api.oip.grpc_asking import ask, text_request
from tests.service.site import Site

UNARY = f"/{INFERENCE}/"
MISSING = [
    path
    for path in SCOPES
    if path.startswith(UNARY) and any(part in path for part in ("SharedMemory", "Trace", "LogSettings", "ModelStream"))
]


def probability(number: int) -> float:
    return 1 / (1 + math.exp(-number / 1000))


def floats(raw: bytes) -> list[float]:
    return array("f", raw).tolist()


def test_a_request_is_answered_with_all_outputs(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        answer = (await ask(made, text_request(b"500", b"-1000", id="a b"))).inference()
        assert (answer.model_name, answer.model_version, answer.id) == ("letters", "1", "a b")
        outputs = list(zip(answer.outputs, answer.raw_output_contents, strict=True))
        assert [(each.name, each.datatype, each.shape[0]) for each, _ in outputs] == [
            ("probabilities", "FP32", 2),
            ("logits", "FP32", 2),
            ("label", "BYTES", 2),
            ("embedding", "FP32", 2),
        ]
        raws = {each.name: raw for each, raw in outputs}
        assert floats(raws["probabilities"])[0::2] == pytest.approx([probability(500), probability(-1000)])
        assert floats(raws["embedding"]) == pytest.approx([0.5, 1, -1, 1])
        assert list(iterate_elements(raws["label"])) == [b"yes", b"no"]

    called(story)


def test_outputs_are_those_that_are_asked_for_and_may_be_classified(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        request = text_request(b"500", outputs=["label", "logits"])
        assert [each.name for each in (await ask(made, request)).inference().outputs] == ["label", "logits"]
        answered = await ask(made, text_request(b"500", outputs=["everything"]))
        assert (answered.status, answered.code) == ("INVALID_ARGUMENT", "invalid_tensor")
        request.outputs[0].parameters["classification"].int64_param = 1
        answered = await ask(made, request)
        assert (answered.status, answered.code) == ("INVALID_ARGUMENT", "invalid_parameter")

    called(story)


def test_texts_may_be_typed_contents(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        raw = text_request(b"500", b"1000", outputs=["logits"])
        typed = text_request(b"500", b"1000", outputs=["logits"])
        typed.ClearField("raw_input_contents")
        typed.inputs[0].contents.bytes_contents.extend([b"500", b"1000"])
        found = [(await ask(made, request)).inference().raw_output_contents for request in (raw, typed)]
        assert found[0] == found[1]

    called(story)


def test_rows_of_which_a_part_was_read_are_named(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        request = text_request(b"1", b"2")
        request.parameters["truncate"].bool_param = True
        answer = (await ask(made, request)).inference()
        assert answer.parameters["truncated_rows"].string_param == "0,1"
        assert not (await ask(made, text_request(b"1"))).inference().parameters

    called(story)


def test_what_server_and_models_say_is_what_they_say_over_http(called: Called) -> None:
    pairs = [
        ("ServerMetadata", service_pb2.ServerMetadataRequest(), service_pb2.ServerMetadataResponse, "/v2"),
        (
            "ModelMetadata",
            service_pb2.ModelMetadataRequest(name="letters"),
            service_pb2.ModelMetadataResponse,
            "/v2/models/letters",
        ),
        (
            "ModelConfig",
            service_pb2.ModelConfigRequest(name="letters", version="1"),
            service_pb2.ModelConfigResponse,
            "/v2/models/letters/versions/1/config",
        ),
    ]

    async def story(site: Site, made: Any) -> None:
        for method, request, kind, path in pairs:
            answered = await ask(made, request, UNARY + method)
            assert answered.status == "OK", answered.details
            found = MessageToDict(kind.FromString(answered.data), preserving_proto_field_name=True)
            wanted = (await site.get(path)).json()
            assert plain(found.get("config", found)) == plain(wanted)

    called(story)


def plain(document: Any) -> Any:
    """Without what JSON of protobuf writes in another way: long integers are strings, and nothing is left out."""
    if isinstance(document, dict):
        return {name: plain(value) for name, value in document.items() if value not in ("", False)}
    if isinstance(document, list):
        return [plain(each) for each in document]
    return str(document)


def test_a_model_is_ready_or_not_and_never_an_error(called: Called) -> None:
    async def ready(made: Any, name: str, version: str = "") -> bool:
        answered = await ask(made, service_pb2.ModelReadyRequest(name=name, version=version), UNARY + "ModelReady")
        assert answered.status == "OK"
        return bool(service_pb2.ModelReadyResponse.FromString(answered.data).ready)

    async def story(site: Site, made: Any) -> None:
        assert await ready(made, "letters")
        assert await ready(made, "letters", "1")
        for name, version in [("letters", "2"), ("nobody", ""), ("", ""), ("../etc", ""), ("letters", "-1")]:
            assert not await ready(made, name, version)
        for method, kind in (("ServerLive", "live"), ("ServerReady", "ready")):
            answered = await ask(made, getattr(service_pb2, f"{method}Request")(), UNARY + method)
            assert getattr(getattr(service_pb2, f"{method}Response").FromString(answered.data), kind)

    called(story)


def test_a_server_without_models_says_that_it_is_not_ready(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        answered = await ask(made, b"", UNARY + "ServerReady")
        assert not service_pb2.ServerReadyResponse.FromString(answered.data).ready
        answered = await ask(made, text_request(b"1"))
        assert (answered.status, answered.trailers["retry-after"]) == ("UNAVAILABLE", "1")

    called(story, workers=0)


@pytest.mark.parametrize("path", MISSING)
def test_what_is_left_out_says_so(called: Called, path: str) -> None:
    async def story(site: Site, made: Any) -> None:
        answered = await ask(made, b"", path)
        assert (answered.status, answered.code) == ("UNIMPLEMENTED", "not_supported")

    called(story, workers=0)


@pytest.mark.parametrize(
    ("model", "version", "status", "code"),
    [
        ("nobody", "", "NOT_FOUND", "model_not_found"),
        ("letters", "7", "NOT_FOUND", "version_not_found"),
        ("letters", "07", "NOT_FOUND", "version_not_found"),
        ("letters", "challenger", "NOT_FOUND", "version_not_found"),
        ("", "", "INVALID_ARGUMENT", "invalid_parameter"),
        ("../etc", "", "INVALID_ARGUMENT", "invalid_parameter"),
    ],
)
def test_a_request_for_what_is_not_there_is_told_so(
    called: Called, model: str, version: str, status: str, code: str
) -> None:
    async def story(site: Site, made: Any) -> None:
        answered = await ask(made, text_request(b"1", model=model, model_version=version))
        assert (answered.status, answered.code) == (status, code)

    called(story)


def test_every_call_has_one_line_in_the_log_and_each_inference_one_count(
    called: Called, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "graftwork.access")

    async def story(site: Site, made: Any) -> None:
        assert (await ask(made, text_request(b"1"), metadata={"x-request-id": "mine"})).trailers[
            "x-request-id"
        ] == "mine"
        answered = await ask(made, text_request(b"blank"), metadata={"x-request-id": "not harmless"})
        assert (answered.status, answered.code) == ("INVALID_ARGUMENT", "empty_text")
        assert len(answered.trailers["x-request-id"]) == 32
        await ask(made, b"\xff" * 10)
        await ask(made, b"", UNARY + "ServerLive")
        assert await site.metric("graftwork_received_requests_total") == {(): 3}
        assert await site.outcomes() == {
            ("letters", "ok", "1"): 1,
            ("letters", "client_error", "1"): 1,
            ("_unknown", "client_error", "_unknown"): 1,
        }
        errors = await site.metric("graftwork_errors_total")
        assert errors == {("letters", "empty_text", "1"): 1, ("_unknown", "invalid_message", "_unknown"): 1}

    called(story)
    lines = [each.fields for each in caplog.records if each.name == "graftwork.access"]  # type: ignore[attr-defined]
    found = [(line["path"], line["status"], line["model"], line["code"]) for line in lines if line["method"] == "gRPC"]
    assert found == [
        (UNARY + "ModelInfer", 200, "letters", None),
        (UNARY + "ModelInfer", 422, "letters", "empty_text"),
        (UNARY + "ModelInfer", 400, "_unknown", "invalid_message"),
        (UNARY + "ServerLive", 200, "_unknown", None),
    ]
    assert next(line for line in lines if line["method"] == "gRPC")["request_id"] == "mine"


def test_an_unforeseen_error_is_one_fixed_answer(
    called: Called, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        raise ValueError("/secret")

    async def story(site: Site, made: Any) -> None:
        monkeypatch.setattr("service.api.oip.grpc_service.read_request", broken)
        answered = await ask(made, text_request(b"1"), metadata={"x-request-id": "mine"})
        assert (answered.status, answered.code, answered.trailers["x-request-id"]) == ("INTERNAL", "internal", "mine")
        assert "secret" not in answered.details
        assert await site.outcomes() == {("letters", "failed", "1"): 1}

    called(story)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert (record.message, record.fields) == ("request failed", {"request_id": "mine"})
