"""What OpenAI's clients ask, as a part of the OpenAPI document: embeddings, and the listing that they share with KServe's."""

from __future__ import annotations

from collections.abc import Sequence

from models import errors
from models.task import Task
from service.api import examples_openai as examples
from service.api.embedding_request import MOST_INPUTS
from service.api.model_listing import OWNER
from service.api.openapi_operation import ANY, VERSION, WHAT_IS_WRONG, Refusals, get, operation, problem
from service.api.schemas import NAME, NUMBER, SCHEMAS, TEXT, Json, array, record, ref
from service.api.schemas_predictions import WHITE_PIXEL
from service.auth.key import Scope

_EMBED: Refusals = tuple(
    dict.fromkeys(
        (
            *(*VERSION, errors.VersionNotFound, errors.UnsupportedMediaType, errors.BodyTooLarge),
            *(errors.InvalidJson, errors.JsonTooDeep, errors.InvalidUtf8, errors.InvalidUnicode, errors.NonFinite),
            *(errors.InvalidBase64, errors.InvalidDocument, errors.InvalidInstances, errors.TooManyInstances),
            *(errors.EmptyText, errors.TextTooLong, errors.ContextLengthExceeded),
            *(errors.FormatNotAllowed, errors.ImageTooManyPixels, errors.AspectRatio),
            *(errors.ImageTruncated, errors.ImageUndecodable),
            *(errors.Overloaded, errors.WorkerLost, errors.WorkerCrashed, errors.OutOfMemory, errors.DeviceFailed),
            errors.EngineUnavailable,
            errors.DeadlineExceeded,
        )
    )
)
_COUNT: Json = {"type": "integer", "minimum": 0}
_ID: Json = {**TEXT, "minLength": 1, "description": "A name, `name:number`, or a backbone's name."}
_TOKENS: Json = {"type": "array", "items": {**_COUNT, "maximum": 2**31 - 1}, "minItems": 1}


_CARD: Json = record(
    id=_ID,
    object={"const": "model"},
    created={**_COUNT, "description": "Seconds since 1970."},
    owned_by={"const": OWNER},
    task={"enum": [*Task], "description": "`embedding` for a backbone."},
    modality={"enum": ["image", "text"]},
)
_CARD["properties"]["dimensions"] = {**NUMBER, "description": "Of its embeddings, where it makes any."}
OPENAI_SCHEMAS: Json = {
    "OpenAIError": {
        **record(
            error=record(
                message=TEXT,
                type=TEXT,
                param={"type": ["string", "null"], "description": "The member of the body that it is about."},
                code={**TEXT, "description": "Stable: what programs may match on."},
            )
        ),
        "description": "As OpenAI's clients read it.",
    },
    "Models": {
        **record(models=array(NAME), object={"const": "list"}, data=array(ref("ModelCard"))),
        "description": "`models` are the names, as KServe's clients read them; `data` has everything that can be asked.",
    },
    "ModelCard": _CARD,
    "Embeddings": {
        **record(
            model=_ID,
            input={
                "anyOf": [
                    {**TEXT, "minLength": 1},
                    array({**TEXT, "minLength": 1}, minItems=1, maxItems=MOST_INPUTS),
                    _TOKENS,
                    array(_TOKENS, minItems=1, maxItems=MOST_INPUTS),
                ],
                "description": "Texts; or tokens of the model's own tokenizer, with or without its special ones; or images as "
                "`data:image/...;base64,...`.",
            },
        ),
        "description": "Other members are ignored.",
    },
    "EmbeddingList": {
        **record(
            object={"const": "list"},
            data=array(
                record(
                    object={"const": "embedding"},
                    index=_COUNT,
                    embedding={
                        "anyOf": [array({"type": "number"}, minItems=1), {**TEXT, "contentEncoding": "base64"}],
                        "description": "Of length 1; in base64 the bytes of FP32, little-endian.",
                    },
                ),
                minItems=1,
            ),
            model={**TEXT, "description": "Who answered: `name:number`, or the backbone."},
            usage=record(prompt_tokens=_COUNT, total_tokens=_COUNT),
        ),
    },
}
_PROBLEM: Json = {name: value for name, value in SCHEMAS["Problem"].items() if name != "examples"}
OPENAI_SCHEMAS["ListingProblem"] = {
    **_PROBLEM,
    "required": [*_PROBLEM["required"], "error"],
    "properties": {**_PROBLEM["properties"], **OPENAI_SCHEMAS["OpenAIError"]["properties"]},
    "description": "RFC 9457, and OpenAI's shape beside it.",
}
OPENAI_SCHEMAS["Embeddings"]["properties"] |= {
    "encoding_format": {"enum": ["float", "base64"], "default": "float"},
    "dimensions": {**NUMBER, "description": "Only so many, the first ones, scaled to length 1 again."},
    "truncate": {"type": "boolean", "default": False, "description": "Cut texts that are too long."},
    "user": TEXT,
}


def openai_paths() -> Json:
    """The routes that OpenAI's clients ask."""
    embed = operation(
        "embed",
        "Embeddings by a model's backbone",
        ("X-Request-Timeout",),
        ref("EmbeddingList"),
        scope=Scope.PREDICT,
        refusals=_EMBED,
        errors=_error,
        examples=examples.EMBEDDINGS,
    )
    card = {"allOf": [ref("Model"), ref("ModelCard")]}
    version = {"allOf": [ref("ModelCard"), record(name=NAME, version=NUMBER, state=TEXT)]}
    return {
        "/v1/embeddings": {"post": {**embed, "requestBody": _body()}},
        "/v1/models": get(
            "list_models",
            "All models",
            ref("Models"),
            scope=Scope.METADATA,
            refusals=ANY,
            errors=_listing_error,
            examples=examples.MODELS,
        ),
        "/v1/models/{id}": get(
            "model_status",
            "A model with its versions, one version, or a backbone",
            {"anyOf": [card, version, ref("ModelCard"), ref("Model")]},
            "id",
            scope=Scope.METADATA,
            refusals=(*VERSION, errors.VersionNotFound),
            errors=_listing_error,
            examples=examples.MODEL,
        ),
    }


def _body() -> Json:
    pixel = f"data:image/png;base64,{WHITE_PIXEL}"
    sent = {
        "texts": {"model": "intents", "input": ["where is my card?", "my card is lost"]},
        "pairs": {"model": "duplicates:1", "input": "where is my card?", "encoding_format": "base64", "dimensions": 8},
        "images": {"model": "flowers", "input": [pixel]},
    }
    content = {
        "schema": ref("Embeddings"),
        "examples": {kind: {"value": example} for kind, example in sent.items()},
    }
    return {"required": True, "content": {"application/json": content}}


def _error(_status: int, codes: Sequence[str]) -> Json:
    example = {"error": {"message": WHAT_IS_WRONG, "type": "invalid_request_error", "param": None, "code": codes[0]}}
    schema = {"allOf": [ref("OpenAIError"), {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}]}
    return {"application/json": {"schema": schema, "example": example}}


def _listing_error(status: int, codes: Sequence[str]) -> Json:
    """Both shapes in one document."""
    ((media_type, content),) = problem(status, codes).items()
    (theirs,) = _error(status, codes).values()
    schema = {"allOf": [ref("ListingProblem"), *content["schema"]["allOf"][1:]]}
    return {media_type: {"schema": schema, "example": content["example"] | theirs["example"]}}
