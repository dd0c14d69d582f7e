"""The routes of the Open Inference Protocol V2, in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence

from models import errors
from service.api import examples, examples_oip
from service.api.openapi_operation import ANY, CHANGE, INFER, READY, VERSION, WHAT_IS_WRONG, get, media, operation
from service.api.schemas import NAME, TEXT, Json, array, record, ref
from service.auth.key import Scope

_SHAPE: Json = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 8}
_WHOLE: Json = {"type": "integer", "minimum": 0}
_NUMBER: Json = {**TEXT, "pattern": "^[1-9][0-9]{0,8}$"}
_DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
_DATATYPE: Json = {"enum": [*_DATATYPES, "FP16", "BF16", "FP32", "FP64", "BYTES"]}
_VALUES: Json = {"type": "array", "items": {"type": ["string", "number", "boolean", "array"]}}


def _with(schema: Json, **optional: Json) -> Json:
    return {**schema, "properties": {**schema["properties"], **optional}}


_ID: Json = {**TEXT, "maxLength": 1024}
_INPUT: Json = _with(
    record(name=TEXT, datatype=_DATATYPE, shape=_SHAPE),
    data={**_VALUES, "description": "Flat, or nested as the shape is; images in base64."},
    parameters={
        "type": "object",
        "properties": {"binary_data_size": _WHOLE},
        "description": "`binary_data_size`: its bytes follow the JSON, so many of them, instead of `data`.",
    },
)
_REQUESTED: Json = _with(
    record(name=TEXT),
    parameters={
        "type": "object",
        "properties": {"binary_data": {"type": "boolean"}, "classification": _WHOLE},
        "description": "`binary_data`: as bytes after the JSON. `classification`: only so many of the highest values, "
        "each as `value:index:label`.",
    },
)
_PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "timeout": {**_WHOLE, "description": "Microseconds; 0 for the server's own limit."},
        "priority": {**_WHOLE, "description": "1 before 2, the usual one, before what is above; 0 for the usual one."},
        "truncate": {"type": "boolean", "description": "Cut texts that are too long instead of refusing them."},
        "binary_data_output": {"type": "boolean", "description": "All outputs as bytes."},
    },
}

OIP_SCHEMAS: Json = {
    "InferError": {**record(error=TEXT), "description": "One string: a stable code, a colon, and what to do."},
    "InferRequest": {
        **_with(
            record(inputs=array(_INPUT, minItems=1, maxItems=16)),
            id=_ID,
            parameters=_PARAMETERS,
            outputs=array(_REQUESTED, maxItems=16),
        ),
        "description": "Inputs by name, and which outputs are wanted; all of them where none is named. See a model's metadata.",
    },
    "InferResponse": _with(
        record(
            model_name=NAME,
            model_version=_NUMBER,
            outputs=array(
                _with(
                    record(name=TEXT, datatype=_DATATYPE, shape=_SHAPE),
                    data=_VALUES,
                    parameters=record(binary_data_size=_WHOLE),
                )
            ),
        ),
        id=_ID,
        parameters=record(truncated_rows={**TEXT, "description": "Rows of which only a part was read: 0,3"}),
    ),
    "TensorMetadata": record(
        name=TEXT,
        datatype=_DATATYPE,
        shape={**_SHAPE, "items": {"type": "integer", "minimum": -1}},
    ),
    "ServerMetadata": record(name=TEXT, version=TEXT, extensions=array(TEXT)),
    "ModelMetadata": record(
        name=NAME,
        versions=array(_NUMBER),
        platform=TEXT,
        inputs=array(ref("TensorMetadata")),
        outputs=array(ref("TensorMetadata")),
    ),
    "RepositoryIndex": array(
        record(
            name=NAME,
            version=_NUMBER,
            state={"enum": ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]},
            reason=TEXT,
        )
    ),
    "ModelConfig": {
        **record(name=NAME, backend=TEXT, max_batch_size=_WHOLE, input=array({}), output=array({})),
        "description": "Triton's ModelConfig.",
    },
}

_INFER_BODY: Json = {
    "required": True,
    "description": "JSON, of `Inference-Header-Content-Length` bytes where that header is sent; the bytes of tensors follow. 0 says "
    "that the body is the one input of one row itself. gzip and deflate are taken.",
    "content": {
        "application/json": {
            "schema": ref("InferRequest"),
            "examples": {
                "texts": {
                    "value": {
                        "inputs": [
                            {
                                "name": "text",
                                "datatype": "BYTES",
                                "shape": [2],
                                "data": ["where is my card?", "my card is lost"],
                            }
                        ],
                        "outputs": [{"name": "label"}, {"name": "probabilities"}],
                    }
                },
                "pairs": {
                    "value": {
                        "id": "pair-1",
                        "inputs": [
                            {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["where is my card?"]},
                            {"name": "text_pair", "datatype": "BYTES", "shape": [1], "data": ["it has not come"]},
                        ],
                    }
                },
            },
        },
        "application/octet-stream": {},
    },
}


def oip_error(status: int, codes: Sequence[str]) -> Json:
    """The protocol's shape of errors; see `service.api.openapi_operation.ErrorShape`."""
    members = {"error": {"pattern": f"^({'|'.join(codes)}): "}}
    schema = {"allOf": [ref("InferError"), {"properties": members}]}
    return {"application/json": {"schema": schema, "example": {"error": f"{codes[0]}: {WHAT_IS_WRONG}"}}}


def oip_paths(live: Json, ready: Json) -> Json:
    """The paths below ``/v2``.

    Args:
        live, ready: schemas of the two health routes' answers.
    """
    model, version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    state = record(name=NAME, ready={"const": True})
    return {
        "/v2/health/live": get(
            "v2_live", "Whether the process answers", live, scope=None, errors=oip_error, examples=examples.LIVE
        ),
        "/v2/health/ready": get(
            "v2_ready",
            "Whether models are loaded and checked",
            ready,
            scope=None,
            refusals=READY,
            errors=oip_error,
            examples=examples.READY,
        ),
        "/v2/models/stats": get(
            "v2_statistics",
            "What was asked of every version that is served",
            ref("Statistics"),
            scope=Scope.METADATA,
            errors=oip_error,
            examples=examples_oip.STATISTICS,
        ),
        **_both(
            model,
            version,
            "/stats",
            "v2_model_statistics",
            "What was asked of a model",
            ref("Statistics"),
            examples_oip.STATISTICS,
        ),
        "/v2": get(
            "v2_server",
            "The server, and its extensions",
            ref("ServerMetadata"),
            scope=Scope.METADATA,
            errors=oip_error,
            examples=examples_oip.SERVER,
        ),
        f"{model}/infer": _infer("v2_infer", "Tensors in, tensors out"),
        f"{version}/infer": _infer("v2_infer_version", "The same of one version", "version"),
        **_both(model, version, "", "v2_model", "A model's tensors", ref("ModelMetadata"), examples_oip.MODEL),
        **_both(
            model, version, "/config", "v2_config", "A model's configuration", ref("ModelConfig"), examples_oip.CONFIG
        ),
        **_both(
            model, version, "/ready", "v2_model_ready", "Whether a model is served", state, examples_oip.MODEL_READY
        ),
        **{f"/v2/{kind}sharedmemory/{{rest}}": _missing(f"v2_{kind}_memory", "rest") for kind in ("system", "cuda")},
        "/v2/repository/index": _index(),
        "/v2/repository/models/{name}/load": _control("load", "Load a model"),
        "/v2/repository/models/{name}/unload": _control("unload", "Unload a model"),
        "/v2/trace/setting": _missing("v2_trace"),
        f"{model}/trace/setting": _missing("v2_model_trace", "name"),
        "/v2/logging": _missing("v2_logging"),
    }


def _both(model: str, version: str, end: str, name: str, summary: str, schema: Json, answers: Json) -> Json:
    """A path of a model, and of one version of it."""
    refusals = (*VERSION, errors.VersionNotFound)
    return {
        model + end: get(
            name, summary, schema, "name", scope=Scope.METADATA, refusals=refusals, errors=oip_error, examples=answers
        ),
        version + end: get(
            f"{name}_version",
            f"{summary}: of one version",
            schema,
            *("name", "version"),
            scope=Scope.METADATA,
            refusals=refusals,
            errors=oip_error,
            examples=answers,
        ),
    }


def _infer(name: str, summary: str, *address: str) -> Json:
    parameters = ("name", *address, "Inference-Header-Content-Length", "X-Request-Timeout")
    made = operation(
        name,
        summary,
        parameters,
        ref("InferResponse"),
        scope=Scope.PREDICT,
        refusals=INFER,
        errors=oip_error,
        examples=examples_oip.INFERRED,
    )
    made["responses"]["200"]["content"]["application/octet-stream"] = {}  # JSON, and the bytes of tensors after it
    return {"post": {**made, "requestBody": _INFER_BODY}}


def _index() -> Json:
    schema = record(ready={"type": "boolean", "description": "Only what is served."})
    body = {
        "application/json": {"schema": {**schema, "required": []}, "examples": {"texts": {"value": {"ready": True}}}}
    }
    refusals = (*ANY, errors.BodyTooLarge, errors.InvalidUtf8, errors.InvalidJson, errors.InvalidDocument)
    made = operation(
        "v2_repository_index",
        "Every version of every model, and its state",
        (),
        ref("RepositoryIndex"),
        scope=Scope.METADATA,
        refusals=refusals,
        errors=oip_error,
        examples=examples_oip.INDEX,
    )
    return {"post": {**made, "requestBody": {"content": body}}}


def _control(verb: str, summary: str) -> Json:
    """With ``--model-control explicit``; else it is answered with 501."""
    made = operation(
        f"v2_repository_{verb}",
        f"{summary}, where models are loaded by their names",
        ("name",),
        {"type": "object"},
        scope=Scope.ADMIN,
        refusals=(*CHANGE, errors.NotSupported, errors.VersionNotLoaded),
        errors=oip_error,
        examples=examples_oip.CONTROLLED,
    )
    schema = {"type": "object", "properties": {"parameters": {"type": "object"}}}
    return {"post": {**made, "requestBody": {"content": {"application/json": media(schema, {"texts": {}})}}}}


def _missing(name: str, *parameters: str) -> Json:
    """A part of Triton's protocol that is answered with 501."""
    refusals = (*ANY, errors.NotSupported, errors.RouteNotFound, errors.MethodNotAllowed)
    made = {}
    for method in ("get", "post"):
        made[method] = operation(
            f"{name}_{method}",
            "Not supported",
            parameters,
            {},
            scope=Scope.METADATA,
            refusals=refusals,
            errors=oip_error,
            examples={},
        )
        del made[method]["responses"]["200"]
    return made
