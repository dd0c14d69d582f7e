"""The routes of the Open Inference Protocol in the OpenAPI document."""

from __future__ import annotations

from http import HTTPStatus

from service.api.schemas import SECURITY, TEXT, Json, record, ref
from service.auth.key import Scope

_STATES = ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]
_INDEX: Json = {
    "type": "array",
    "items": record(name=TEXT, version=TEXT, state={"enum": _STATES}, reason=TEXT),
}
_ERROR: Json = {**record(error=TEXT), "description": "`code: message`"}
_ANY = (400, 401, 403, 408, 413, 414, 422, 429, 431, 500, 503)
_CONTROL = (*_ANY, 404, 405, 409, 415, 501, 504, 507)
_HEADERS = {401: ["WWW-Authenticate"], 405: ["Allow"], 429: ["Retry-After"], 503: ["Retry-After"]}


def oip_paths() -> Json:
    """Their paths."""
    return {
        "/v2/repository/index": {
            "post": _operation(
                "v2_repository_index",
                "Every version of every model, and its state",
                _INDEX,
                body={"type": "object", "properties": {"ready": {"type": "boolean"}}},
                example={"ready": True},
                scope=Scope.METADATA,
                statuses=_ANY,
            )
        },
        "/v2/repository/models/{name}/load": {
            "post": _control("v2_repository_load", "Load a model, with `--model-control explicit`", example={})
        },
        "/v2/repository/models/{name}/unload": {
            "post": _control(
                "v2_repository_unload",
                "Unload a model, with `--model-control explicit`",
                example={"parameters": {"unload_dependents": False}},
            )
        },
    }


def _control(name: str, summary: str, *, example: Json) -> Json:
    body: Json = {"type": "object", "properties": {"parameters": {"type": "object"}}}
    return _operation(
        name,
        summary,
        {"type": "object", "maxProperties": 0},
        "name",
        body=body,
        example=example,
        scope=Scope.ADMIN,
        statuses=_CONTROL,
    )


def _operation(
    name: str,
    summary: str,
    answer: Json,
    *parameters: str,
    body: Json,
    example: Json,
    scope: Scope,
    statuses: tuple[int, ...],
) -> Json:
    content = {"application/json": {"schema": body, "examples": {"texts": {"value": example}}}}
    return {
        "operationId": name,
        "summary": summary,
        "description": f"Where keys are asked for, one that allows `{scope}`.",
        "parameters": [ref(parameter, "parameters") for parameter in (*parameters, "X-Request-Id")],
        "requestBody": {"required": False, "content": content},
        "responses": {
            "200": _response("OK", answer),
            **{
                str(status): _response(HTTPStatus(status).phrase, _ERROR, *_HEADERS.get(status, []))
                for status in sorted(statuses)
            },
        },
        "security": SECURITY,
    }


def _response(description: str, schema: Json, *headers: str) -> Json:
    return {
        "description": description,
        "headers": {name: ref(name, "headers") for name in ("X-Request-Id", *headers)},
        "content": {"application/json": {"schema": schema}},
    }
