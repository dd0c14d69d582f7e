"""The parts that the routes of the OpenAPI document share: what goes in and what comes out.

Examples called ``texts``, ``pairs`` and ``images`` are for models that read those; those of one name belong together.
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


def _list(items: Json, **limits: int) -> Json:
    return {"type": "array", "items": items, **limits}


_INSTANCES = {"minItems": 1, "maxItems": MAX_INSTANCES}
_WHITE_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAHLCMmQAAAABJRU5ErkJggg=="

TEXT: Json = {"type": "string"}
NAME: Json = {**TEXT, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
ALIAS: Json = {**TEXT, "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"}
NUMBER: Json = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
SCORE: Json = {"type": "number", "minimum": 0, "maximum": 1}
_SOME_TEXT: Json = {**TEXT, "minLength": 1}
_TWO_TEXTS: Json = {"type": "array", "prefixItems": [_SOME_TEXT, _SOME_TEXT], "items": False, "minItems": 2}
_PLACE: Json = {"type": "integer", "minimum": 0}
_PROBABILITIES: Json = {"type": "object", "additionalProperties": SCORE, "minProperties": 1}
_TRUNCATED: Json = {"const": True, "description": "The text was too long, and only its start was read."}
REQUEST_ID: Json = {**TEXT, "pattern": "^[A-Za-z0-9._-]{1,64}$"}


_EXPECT: Json = {
    "anyOf": [NUMBER, {"const": "unset"}],
    "description": "Refuse with 409 unless the alias points to this version now.",
}
_POLICY: Json = {**TEXT, "pattern": "^(latest:[1-9][0-9]{0,8}|all|[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*)$"}


def _prediction(description: str, example: Json, **members: Json) -> Json:
    """A prediction of one task; that of a text may be of its start only."""
    made = record(**members)
    made["properties"]["truncated"] = _TRUNCATED
    return {**made, "description": description, "examples": [example]}


SCHEMAS: Json = {
    "Texts": {
        **record(instances=_list(_SOME_TEXT, **_INSTANCES)),
        "description": "For a model that reads texts.",
    },
    "Pairs": {
        **record(instances=_list({"anyOf": [record(text=_SOME_TEXT, text_pair=_SOME_TEXT), _TWO_TEXTS]}, **_INSTANCES)),
        "description": "For a model that reads pairs of texts.",
    },
    "Images": {
        **record(instances=_list(record(b64={**TEXT, "contentEncoding": "base64"}), **_INSTANCES)),
        "description": "For a model that reads images: JPEG, PNG or WebP files.",
    },
    "Serving": {
        **record(engine=TEXT, precision={"enum": ["fp32", "int8"]}, reason=TEXT),
        "description": "What computes the version, and why it is nothing faster.",
    },
    "Predictions": {
        **record(predictions=_list(ref("Prediction"), minItems=1), model=NAME, version=NUMBER, request_id=REQUEST_ID),
        "description": "One prediction for each instance, in their order.",
        "examples": [
            {
                "predictions": [{"label": "lost_card", "score": 0.75, "scores": {"lost_card": 0.75, "arrival": 0.25}}],
                "model": "intents",
                "version": 1,
                "request_id": "0f8fad5bd9cb469fa16570867728950e",
            }
        ],
    },
    "Prediction": {
        "anyOf": [ref(name) for name in ("SingleLabel", "MultiLabel", "Value", "Entities", "Features")],
        "description": "By the task of the version (`task` in its metadata).",
    },
    "SingleLabel": _prediction(
        "Of `single-label`.",
        {"label": "lost_card", "score": 0.75, "scores": {"lost_card": 0.75, "arrival": 0.25}},
        label={**TEXT, "description": "The most probable one."},
        score={**SCORE, "description": "Its probability."},
        scores={
            **_PROBABILITIES,
            "description": "Probabilities by label, highest first; of all labels, or of the `top_k` best.",
        },
    ),
    "MultiLabel": _prediction(
        "Of `multi-label`.",
        {"labels": ["food"], "scores": {"food": 0.9, "sport": 0.4}},
        labels={**_list(TEXT), "description": "Those with a probability from the version's threshold on, best first."},
        scores={
            **_PROBABILITIES,
            "description": "Probabilities by label, each for itself, highest first; of all, or of the `top_k` best.",
        },
    ),
    "Value": _prediction(
        "Of `regression`.",
        {"value": 3.5, "interval": [2.75, 4.25]},
        value={"type": "number"},
        interval={
            **_list({"type": "number"}, minItems=2, maxItems=2),
            "description": "From and to: it holds the true value in 90 of 100 cases.",
        },
    ),
    "Entities": _prediction(
        "Of `token-classification`. Words are what stands between white space.",
        {"entities": [{"label": "city", "text": "New York", "start": 9, "end": 17, "score": 0.97}]},
        entities=_list(
            record(
                label=TEXT,
                text=TEXT,
                start={**_PLACE, "description": "In code points of the text that was sent."},
                end={**_PLACE, "description": "Of the code point behind it."},
                score={**SCORE, "description": "The probability of its least certain word."},
            )
        ),
    ),
    "Features": _prediction(
        "Of `embedding`.",
        {"embedding": [0.25, -0.5, 0.125]},
        embedding={
            **_list({"type": "number"}, minItems=1),
            "description": "As the backbone gives it, in 32 bits; of length 1 only where the backbone makes it so.",
        },
    ),
    "Models": {**record(models=_list(NAME)), "examples": [{"models": ["flowers", "intents"]}]},
    "Model": {
        **record(
            name=NAME,
            ready={"type": "boolean", "description": "Whether any version is."},
            default_version={"type": ["integer", "null"], "description": "The one that `predict` asks."},
            aliases={"type": "object", "additionalProperties": NUMBER},
            keep={**_POLICY, "description": "Which versions are kept loaded, beside aliased ones."},
            versions=_list(
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
        "examples": [
            {
                "name": "intents",
                "ready": True,
                "default_version": 1,
                "aliases": {"champion": 1},
                "keep": "latest:2",
                "versions": [{"version": 1, "state": "ready"}],
            }
        ],
    },
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

_POINTED: Json = {"anyOf": [NUMBER, {"type": "null"}]}

# For operators.
SCHEMAS |= {
    "Promotion": {
        **record(version=NUMBER),
        "properties": {"version": NUMBER, "expect": _EXPECT},
        "additionalProperties": False,
        "examples": [{"version": 2, "expect": 1}],
    },
    "Expectation": {
        "type": "object",
        "properties": {"expect": _EXPECT},
        "additionalProperties": False,
        "examples": [{"expect": 2}],
    },
    "Keep": {**record(keep=_POLICY), "additionalProperties": False, "examples": [{"keep": "latest:3"}]},
    "Change": {
        **record(model=NAME, alias=ALIAS, version=_POINTED, before=_POINTED),
        "description": "Where an alias points now, and pointed before.",
        "examples": [{"model": "intents", "alias": "champion", "version": 2, "before": 1}],
    },
    "Deletion": {
        **record(model=NAME, version=NUMBER, deleted={"const": True}),
        "examples": [{"model": "intents", "version": 1, "deleted": True}],
    },
    "Kept": {**record(model=NAME, keep=_POLICY), "examples": [{"model": "intents", "keep": "latest:3"}]},
}

# A media type without a schema: bytes as they are.
BODY: Json = {
    "required": True,
    "description": "What the model reads: texts, pairs of them (in JSON only), or image files (JPEG, PNG, WebP); not "
    "compressed. An image model also takes "
    "one file without a type, or as `application/x-www-form-urlencoded`, which is what `curl --data-binary` says.",
    "content": {
        "application/json": {
            "schema": {"anyOf": [ref("Texts"), ref("Pairs"), ref("Images")]},
            "examples": {
                "texts": {"value": {"instances": ["where is my card?", "my card is lost"]}},
                "pairs": {
                    "value": {
                        "instances": [
                            {"text": "where is my card?", "text_pair": "my card has not come"},
                            ["where is my card?", "how do I top up?"],
                        ]
                    }
                },
                "images": {"value": {"instances": [{"b64": _WHITE_PIXEL}]}},
            },
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": MAX_INSTANCES,
                "additionalProperties": {**TEXT, "contentMediaType": "application/octet-stream"},
                "description": "Each part is an instance, whatever its name and type.",
            },
            "examples": {"texts": {"value": {"first": "where is my card?", "second": "my card is lost"}}},
        },
        "text/plain": {
            "schema": {**TEXT, "minLength": 1, "description": "One text in UTF-8."},
            "examples": {"texts": {"value": "where is my card?"}},
        },
        "image/jpeg": {},
        "image/png": {},
        "image/webp": {},
        "application/octet-stream": {},
    },
}


def document_body(name: str) -> Json:
    """A body that is one of the schemas."""
    return {"required": True, "content": {"application/json": {"schema": ref(name)}}}


def _parameter(where: str, name: str, schema: Json, description: str, **examples: object) -> Json:
    named = {kind: {"value": value} for kind, value in examples.items()}
    required = {"required": True} if where == "path" else {}
    return {"in": where, "name": name, "schema": schema, "description": description, "examples": named, **required}


PARAMETERS: Json = {
    "name": _parameter("path", "name", NAME, "A model.", texts="intents", pairs="duplicates", images="flowers"),
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
    "expect": _parameter("query", "expect", _EXPECT, "Refuse with 409 unless the alias points to this version now."),
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
