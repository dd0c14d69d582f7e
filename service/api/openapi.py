"""The HTTP interface as an OpenAPI 3.1 document: every route, and every way in which it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from http import HTTPStatus
from typing import TypeAlias

import orjson
from starlette.requests import Request
from starlette.responses import Response

from models import errors
from models.errors import GraftworkError
from models.manifest import Manifest
from service.api.schemas import BODY, HEADERS, PARAMETERS, SCHEMAS, TEXT, Json, record, ref

MEDIA_TYPE = "application/openapi+json"  # draft-ietf-httpapi-rest-api-mediatypes

Refusals: TypeAlias = Sequence[type[GraftworkError]]

# What routes may refuse.
_ANY: Refusals = (
    *(GraftworkError, errors.BadRequest, errors.RequestTimeout, errors.UrlTooLong, errors.HeadersTooLarge),
    errors.TooManyConnections,
)
_READY: Refusals = (*_ANY, errors.NotReady)
_MODEL: Refusals = (
    *(*_READY, errors.InvalidParameter),
    *(errors.RouteNotFound, errors.MethodNotAllowed, errors.ModelNotFound),
)
_VERSION: Refusals = (*_MODEL, errors.VersionCorrupt)
_PREDICT: Refusals = (
    *(*_VERSION, errors.VersionNotFound, errors.UnsupportedMediaType, errors.EmptyBody, errors.BodyTooLarge),
    *(errors.InvalidJson, errors.JsonTooDeep, errors.InvalidUtf8, errors.InvalidUnicode, errors.NonFinite),
    *(errors.InvalidInstances, errors.TooManyInstances, errors.InvalidBase64),
    *(errors.EmptyText, errors.TextTooLong, errors.ContextLengthExceeded),
    *(errors.FormatNotAllowed, errors.ImageTooManyPixels, errors.AspectRatio),
    *(errors.ImageTruncated, errors.ImageUndecodable),
    *(errors.Overloaded, errors.WorkerLost, errors.WorkerCrashed, errors.OutOfMemory, errors.DeviceFailed),
    errors.DeadlineExceeded,
)


def openapi_route(version: str) -> Callable[[Request], Awaitable[Response]]:
    """The handler of ``GET /openapi.json``; the document is built for the first who asks.

    Args:
        version: of Graftwork.
    """

    @cache
    def document() -> bytes:
        return orjson.dumps(openapi_document(version))

    async def openapi(request: Request) -> Response:
        return Response(document(), media_type=MEDIA_TYPE)

    return openapi


def openapi_document(version: str) -> Json:
    """The document.

    Args:
        version: of Graftwork.
    """
    live, ready = record(live={"const": True}), record(ready={"const": True})
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Graftwork",
            "version": version,
            "summary": "Predictions by heads that are grafted onto shared backbones.",
            "description": "Every GET route answers HEAD too. Query parameters and members of a JSON body that are not "
            "listed are ignored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/models/{name}:predict": _predict("predict", "Ask the version of `champion`, else the newest"),
            "/v1/models/{name}/versions/{number}:predict": _predict("predict_version", "Ask one version", "number"),
            "/v1/models/{name}/labels/{alias}:predict": _predict(
                "predict_label", "Ask the version of a label", "alias"
            ),
            "/v1/models": _get("list_models", "All models", ref("Models")),
            "/v1/models/{name}": _get("model_status", "A model's versions", ref("Model"), "name", refusals=_MODEL),
            "/v1/models/{name}/metadata": _get(
                "model_metadata",
                "What the version that `predict` asks says of itself, and how it is computed",
                ref("Metadata"),
                "name",
                refusals=_VERSION,
            ),
            "/health/live": _get("live", "Whether the process answers", live),
            "/health/ready": _get("ready", "Whether models are loaded and checked", ready, refusals=_READY),
            "/v2/health/live": _get("v2_live", "The same for the Open Inference Protocol", live),
            "/v2/health/ready": _get("v2_ready", "The same for the Open Inference Protocol", ready, refusals=_READY),
            "/metrics": _get("metrics", "Metrics in the text format of Prometheus", TEXT, media_type="text/plain"),
            "/openapi.json": _get(
                "openapi", "This document, on the loopback address only", {"type": "object"}, media_type=MEDIA_TYPE
            ),
        },
        "components": {"schemas": {**SCHEMAS, **_metadata()}, "parameters": PARAMETERS, "headers": HEADERS},
    }


def _predict(name: str, summary: str, *address: str) -> Json:
    parameters = ("name", *address, "top_k", "truncate", "X-Request-Timeout")
    responses = _responses(ref("Predictions"), "application/json", _PREDICT)
    return {"post": {**_operation(name, summary, parameters, responses), "requestBody": BODY}}


def _get(
    name: str,
    summary: str,
    schema: Json,
    *parameters: str,
    refusals: Refusals = _ANY,
    media_type: str = "application/json",
) -> Json:
    return {"get": _operation(name, summary, parameters, _responses(schema, media_type, refusals))}


def _operation(name: str, summary: str, parameters: Sequence[str], responses: Json) -> Json:
    references = [ref(parameter, "parameters") for parameter in (*parameters, "X-Request-Id")]
    return {"operationId": name, "summary": summary, "parameters": references, "responses": responses}


def _responses(schema: Json, media_type: str, refusals: Refusals) -> Json:
    """The good answer, and each other status with the codes that it comes with."""
    codes: dict[int, list[str]] = {}
    for kind in refusals:
        codes.setdefault(kind.status, []).append(kind.code)
    return {"200": _response("OK", schema, media_type)} | {
        str(status): _response(
            f"{HTTPStatus(status).phrase}: {', '.join(codes[status])}",
            {"allOf": [ref("Problem"), {"properties": {"status": {"const": status}, "code": {"enum": codes[status]}}}]},
            "application/problem+json",
            *{405: ["Allow"], 503: ["Retry-After"]}.get(status, []),
        )
        for status in sorted(codes)
    }


def _response(description: str, schema: Json, media_type: str, *headers: str) -> Json:
    return {
        "description": description,
        "headers": {name: ref(name, "headers") for name in ("X-Request-Id", *headers)},
        "content": {media_type: {"schema": schema}},
    }


def _metadata() -> Json:
    """A manifest with ``serving`` in it, and the schemas of its parts."""
    from pydantic.json_schema import models_json_schema

    _, schema = models_json_schema([(Manifest, "serialization")], ref_template="#/components/schemas/{model}")
    parts: Json = schema["$defs"]
    manifest = parts.pop("Manifest")
    properties = {**manifest["properties"], "serving": ref("Serving")}
    required = [*manifest["required"], "serving"]
    return {**parts, "Metadata": {**manifest, "title": "Metadata", "properties": properties, "required": required}}
