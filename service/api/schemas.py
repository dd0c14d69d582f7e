"""The parts that the routes of the OpenAPI document share: what goes in and what comes out.

Examples of one name belong together, in parameters, bodies and answers (`service.api.examples`): ``texts``, ``pairs`` and ``images``
are for models that read those, and ``texts`` is also the name where there is one only.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

MAX_INSTANCES = 64


def ref(name: str, section: str = "schemas") -> Json:
    """A reference to one of the parts."""
    return {"$ref": f"#/components/{section}/{name}"}


def record(**members: Json) -> Json:
    """An object with these members, all of them required."""
    return {"type": "object", "required": list(members), "properties": members}


def array(items: Json, **limits: int) -> Json:
    """Any number of items of a kind, within limits."""
    return {"type": "array", "items": items, **limits}


TEXT: Json = {"type": "string"}
NAME: Json = {**TEXT, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
ALIAS: Json = {**TEXT, "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"}
NUMBER: Json = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
SCORE: Json = {"type": "number", "minimum": 0, "maximum": 1}
REQUEST_ID: Json = {**TEXT, "pattern": "^[A-Za-z0-9._-]{1,64}$"}


EXPECT: Json = {
    "anyOf": [NUMBER, {"const": "unset"}],
    "description": "Refuse with 409 unless the alias points to this version now.",
}
POLICY: Json = {**TEXT, "pattern": "^(latest:[1-9][0-9]{0,8}|all|[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*)$"}

SCHEMAS: Json = {
    "Serving": {
        **record(engine=TEXT, precision={"enum": ["fp32", "int8"]}, reason=TEXT),
        "description": "What computes the version, and why it is nothing faster.",
    },
    "Model": record(
        name=NAME,
        ready={"type": "boolean", "description": "Whether any version is."},
        default_version={"type": ["integer", "null"], "description": "The one that `predict` asks."},
        aliases={"type": "object", "additionalProperties": NUMBER},
        keep={**POLICY, "description": "Which versions are kept loaded, beside aliased ones."},
        versions=array(
            {
                "type": "object",
                "required": ["version", "state"],
                "properties": {
                    "version": NUMBER,
                    "state": {"enum": ["unloaded", "loading", "ready", "on-demand", "failed"]},
                    "reason": {**TEXT, "description": "Why it failed."},
                },
            }
        ),
    ),
    "Problem": {
        **record(
            type={"const": "about:blank"},
            title={**TEXT, "description": "The status in words."},
            status={"type": "integer", "minimum": 400, "maximum": 599},
            code={**TEXT, "pattern": "^[a-z0-9_]+$", "description": "Stable: what programs may match on."},
            detail={**TEXT, "minLength": 1, "description": "What is wrong, and the cure."},
            request_id=REQUEST_ID,
        ),
        "additionalProperties": False,
        "description": "RFC 9457.",
        "examples": [
            {
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "code": "model_not_found",
                "detail": "there is no model 'intent'; did you mean 'intents'?",
                "request_id": "0f8fad5bd9cb469fa16570867728950e",
            }
        ],
    },
}


def _parameter(where: str, name: str, schema: Json, description: str, **examples: object) -> Json:
    named = {kind: {"value": value} for kind, value in examples.items()}
    required = {"required": True} if where == "path" else {}
    return {"in": where, "name": name, "schema": schema, "description": description, "examples": named, **required}


PARAMETERS: Json = {
    "name": _parameter("path", "name", NAME, "A model.", texts="intents", pairs="duplicates", images="flowers"),
    "id": _parameter(
        "path",
        "id",
        {**TEXT, "pattern": "^[^/:]+(:[1-9][0-9]{0,8})?$"},
        "A model, one version of it (`intents:1`), or a backbone that is loaded.",
        texts="intents",
        pairs="duplicates:1",
        images="flowers",
    ),
    "number": _parameter("path", "number", NUMBER, "A version.", texts=1, pairs=1, images=1),
    "version": _parameter(
        "path",
        "version",
        {**TEXT, "pattern": "^([1-9][0-9]{0,8}|[A-Za-z_][A-Za-z0-9_-]{0,63})$"},
        "A version: its number, or a label that leads to it.",
        texts="1",
        pairs="1",
        images="1",
    ),
    "rest": _parameter(
        "path",
        "rest",
        {**TEXT, "pattern": "^[a-z/]+$"},
        "What is asked for.",
        texts="status",
        pairs="unregister",
        images="region/mine/register",
    ),
    "file": _parameter(
        "path",
        "file",
        {"enum": ["swagger-ui-bundle.js", "swagger-ui.css", "init.js"]},
        "A file of the page.",
        script="init.js",
        style="swagger-ui.css",
    ),
    "Inference-Header-Content-Length": _parameter(
        "header",
        "Inference-Header-Content-Length",
        {"type": "integer", "minimum": 0},
        "How many bytes of the body are JSON.",
        images=0,
    ),
    "alias": _parameter(
        "path", "alias", ALIAS, "A name for a version.", texts="champion", pairs="champion", images="champion"
    ),
    "expect": _parameter(
        "query", "expect", EXPECT, "Refuse with 409 unless the alias points to this version now.", texts=1
    ),
    "top_k": _parameter("query", "top_k", NUMBER, "How many scores to list, where there are any.", texts=1, images=3),
    "truncate": _parameter(
        "query",
        "truncate",
        {"type": "boolean", "default": False},
        "Cut a text that is too long, instead of refusing it.",
        texts=True,
    ),
    "X-Request-Timeout": _parameter(
        "header",
        "X-Request-Timeout",
        {"type": "number", "exclusiveMinimum": 0},
        "Seconds until the answer is 504; never more than the server allows (30, unless it was told otherwise).",
        texts=2.5,
        images=10,
    ),
    "X-Request-Id": _parameter(
        "header",
        "X-Request-Id",
        REQUEST_ID,
        "Comes back with the answer and stands in the log. One of another form is replaced.",
        texts="order-4711.first_try",
    ),
}

HEADERS: Json = {
    "X-Request-Id": {"description": "The request's own, or a new one.", "required": True, "schema": REQUEST_ID},
    "Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "How to show a key.", "required": True, "schema": {"const": "Bearer"}},
    "Allow": {"description": "The methods that the path takes.", "required": True, "schema": TEXT},
}

SECURITY_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

# Nothing is one of the ways, as a server without keys asks for none.
SECURITY: list[Json] = [{}, {"bearer": []}, {"key": []}]
