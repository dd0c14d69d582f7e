"""The HTTP interface as an OpenAPI 3.1 document: every route, and every way in which it answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import orjson
from starlette.requests import Request
from starlette.responses import Response

from models import errors
from models.errors import RouteNotFound
from models.manifest import Manifest
from service.api import examples
from service.api.declaration import route
from service.api.openapi_oip import OIP_SCHEMAS, oip_paths
from service.api.openapi_openai import OPENAI_SCHEMAS, openai_paths
from service.api.openapi_operation import ANY, CHANGE, PREDICT, READY, VERSION, get, media, operation
from service.api.openapi_tei import TEI_SCHEMAS, tei_paths
from service.api.schemas import HEADERS, PARAMETERS, SCHEMAS, SECURITY_SCHEMES, TEXT, Json, record, ref
from service.api.schemas_admin import ADMIN_SCHEMAS, document_body
from service.api.schemas_predictions import BODY, PREDICTION_SCHEMAS
from service.api.schemas_statistics import STATISTICS_SCHEMAS
from service.auth.key import Scope

MEDIA_TYPE = "application/openapi+json"  # draft-ietf-httpapi-rest-api-mediatypes


class OpenApiRoute:
    """The handler of ``GET /openapi.json``; the document is built for the first who asks.

    Args:
        version: of Graftwork.
        is_served: whether there is such a route now.
        admin: whether there are routes for operators.
    """

    def __init__(self, version: str, is_served: Callable[[], bool], *, admin: bool = False) -> None:
        self._document = cache(lambda: orjson.dumps(openapi_document(version, admin=admin)))
        self._is_served = is_served

    @route("GET", "/openapi.json", scope=Scope.METADATA)
    async def openapi(self, request: Request) -> Response:
        """``GET /openapi.json``: this interface."""
        if not self._is_served():
            raise RouteNotFound("there is no route /openapi.json")
        return Response(self._document(), media_type=MEDIA_TYPE)


def openapi_document(version: str, *, admin: bool = False) -> Json:
    """The document.

    Args:
        version: of Graftwork.
        admin: whether there are routes for operators.
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
            **openai_paths(),
            "/v1/models/{name}/metadata": get(
                "model_metadata",
                "What the version that `predict` asks says of itself, and how it is computed",
                ref("Metadata"),
                "name",
                scope=Scope.METADATA,
                refusals=VERSION,
                examples=examples.METADATA,
            ),
            "/health/live": get("live", "Whether the process answers", live, scope=None, examples=examples.LIVE),
            "/health/ready": get(
                "ready",
                "Whether models are loaded and checked",
                ready,
                scope=None,
                refusals=READY,
                examples=examples.READY,
            ),
            **oip_paths(live, ready),
            **tei_paths(ready),
            "/metrics": get(
                "metrics",
                "Metrics in the text format of Prometheus",
                TEXT,
                scope=Scope.METRICS,
                media_type="text/plain",
                examples=examples.METRICS,
            ),
            "/openapi.json": get(
                "openapi",
                "This document; without keys, on the loopback address only",
                {"type": "object"},
                scope=Scope.METADATA,
                refusals=(*ANY, errors.RouteNotFound),
                media_type=MEDIA_TYPE,
                examples=examples.OPENAPI,
            ),
            "/docs": get(
                "docs",
                "This document in a browser; where `/openapi.json` is",
                TEXT,
                scope=None,
                refusals=(*ANY, errors.RouteNotFound),
                media_type="text/html",
                examples=examples.PAGE,
            ),
            "/docs/{file}": _docs_file(),
            **(_admin_paths() if admin else {}),
        },
        "components": {
            "schemas": {
                **SCHEMAS,
                **PREDICTION_SCHEMAS,
                **ADMIN_SCHEMAS,
                **OPENAI_SCHEMAS,
                **OIP_SCHEMAS,
                **TEI_SCHEMAS,
                **STATISTICS_SCHEMAS,
                **_metadata(),
            },
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _admin_paths() -> Json:
    """What ``--admin`` adds; every change may be refused for its expectation."""
    label = ("name", "alias")
    return {
        "/v1/models/{name}/labels/{alias}": {
            "put": _change(
                *("promote", "Point an alias at a version, once every worker has it", *label),
                body=document_body("Promotion", version=2, expect=1),
                answers=examples.PROMOTED,
            ),
            "delete": _change("unalias", "Remove an alias", *label, "expect", answers=examples.UNALIASED),
        },
        "/v1/models/{name}/labels/{alias}:rollback": {
            "post": _change(
                *("rollback", "Point an alias where it pointed before", *label),
                body=document_body("Expectation", expect=2),
                answers=examples.ROLLED_BACK,
            )
        },
        "/v1/models/{name}/versions/{number}": {
            "delete": _change(
                *("delete", "Delete a version without an alias", "name", "number"),
                answer="Deletion",
                answers=examples.DELETED,
            )
        },
        "/v1/models/{name}/keep": {
            "put": _change(
                *("keep", "Say which versions are kept loaded", "name"),
                body=document_body("Keep", keep="latest:3"),
                answer="Kept",
                answers=examples.KEPT,
            )
        },
    }


def _change(
    name: str, summary: str, *parameters: str, body: Json | None = None, answer: str = "Change", answers: Json
) -> Json:
    made = operation(name, summary, parameters, ref(answer), scope=Scope.ADMIN, refusals=CHANGE, examples=answers)
    return {**made, **({} if body is None else {"requestBody": body})}


def _predict(name: str, summary: str, *address: str) -> Json:
    parameters = ("name", *address, "top_k", "truncate", "X-Request-Timeout")
    made = operation(
        name,
        summary,
        parameters,
        ref("Predictions"),
        scope=Scope.PREDICT,
        refusals=PREDICT,
        examples=examples.PREDICTIONS,
    )
    return {"post": {**made, "requestBody": BODY}}


def _docs_file() -> Json:
    item = get(
        "docs_file",
        "What that page loads",
        TEXT,
        "file",
        scope=None,
        refusals=(*ANY, errors.RouteNotFound, errors.MethodNotAllowed),
        media_type="text/javascript",
        examples=examples.SCRIPT,
    )
    item["get"]["responses"]["200"]["content"]["text/css"] = media(TEXT, examples.STYLE)
    return item


def _metadata() -> Json:
    """A manifest with ``serving`` in it, and the schemas of its parts."""
    from pydantic.json_schema import models_json_schema

    _, schema = models_json_schema([(Manifest, "serialization")], ref_template="#/components/schemas/{model}")
    parts: Json = schema["$defs"]
    manifest = parts.pop("Manifest")
    serving = {"anyOf": [ref("Serving"), {"type": "null"}], "description": "Null until it was loaded once."}
    properties = {**manifest["properties"], "serving": serving}
    required = [*manifest["required"], "serving"]
    return {**parts, "Metadata": {**manifest, "title": "Metadata", "properties": properties, "required": required}}
