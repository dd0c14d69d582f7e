"""Good answers of the Open Inference Protocol in the OpenAPI document; see `service.api.examples`."""

from __future__ import annotations

from service.api.schemas import Json

SERVER: Json = {
    "texts": {
        "name": "graftwork",
        "version": "0.1.0",
        "extensions": ["binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"],
    }
}
MODEL_READY: Json = {"texts": {"name": "intents", "ready": True}}
INDEX: Json = {"texts": [{"name": "intents", "version": "1", "state": "READY", "reason": ""}]}
CONTROLLED: Json = {"texts": {}}


def _tensor(name: str, datatype: str, *shape: int, **data: object) -> Json:
    return {"name": name, "datatype": datatype, "shape": list(shape), **data}


def _model(name: str, inputs: list[Json], classes: int, *more: Json) -> Json:
    outputs = [
        _tensor("probabilities", "FP32", -1, classes),
        _tensor("logits", "FP32", -1, classes),
        _tensor("label", "BYTES", -1),
        *more,
    ]
    return {"name": name, "versions": ["1"], "platform": "graftwork", "inputs": inputs, "outputs": outputs}


_TEXT = _tensor("text", "BYTES", -1)
MODEL: Json = {
    "texts": _model("intents", [_TEXT], 2, _tensor("embedding", "FP32", -1, 384)),
    "pairs": _model("duplicates", [_TEXT, _tensor("text_pair", "BYTES", -1)], 2),
    "images": _model(
        "flowers",
        [_tensor("image", "BYTES", -1), _tensor("pixel_values", "FP32", -1, 3, 224, 224)],
        3,
        _tensor("embedding", "FP32", -1, 1280),
    ),
}


def _spec(name: str, data_type: str, *dims: int, **optional: bool) -> Json:
    return {"name": name, "data_type": data_type, "dims": list(dims), **optional}


def _config(name: str, inputs: list[Json], classes: int) -> Json:
    return {
        "name": name,
        "platform": "",
        "backend": "graftwork",
        "version_policy": {"latest": {"num_versions": 2}},
        "max_batch_size": 64,
        "input": inputs,
        "output": [_spec("probabilities", "TYPE_FP32", classes), _spec("label", "TYPE_STRING", 1)],
        "dynamic_batching": {"priority_levels": 3, "default_priority_level": 2},
    }


_STRING = ("TYPE_STRING", 1)
CONFIG: Json = {
    "texts": _config("intents", [_spec("text", *_STRING)], 2),
    "pairs": _config("duplicates", [_spec("text", *_STRING), _spec("text_pair", *_STRING)], 2),
    "images": _config(
        "flowers",
        [_spec("image", *_STRING, optional=True), _spec("pixel_values", "TYPE_FP32", 3, 224, 224, optional=True)],
        3,
    ),
}


def _inferred(model: str, *outputs: Json, **id: str) -> Json:
    return {"model_name": model, "model_version": "1", **id, "outputs": list(outputs)}


INFERRED: Json = {
    "texts": _inferred(
        "intents",
        _tensor("label", "BYTES", 2, data=["arrival", "lost_card"]),
        _tensor("probabilities", "FP32", 2, 2, data=[0.25, 0.75, 0.9, 0.1]),
    ),
    "pairs": _inferred(
        "duplicates",
        _tensor("probabilities", "FP32", 1, 2, data=[0.75, 0.25]),
        _tensor("logits", "FP32", 1, 2, data=[1.1, 0.0]),
        _tensor("label", "BYTES", 1, data=["yes"]),
        id="pair-1",
    ),
}

_ONCE: Json = {"count": 1, "ns": 1_500_000}
_NEVER: Json = {"count": 0, "ns": 0}
VERSION_STATISTICS: Json = {
    "name": "intents",
    "version": "1",
    "last_inference": 1_767_225_600_000,
    "inference_count": 1,
    "execution_count": 1,
    "inference_stats": {
        "success": _ONCE,
        "fail": _NEVER,
        "queue": {"count": 1, "ns": 0},
        "compute_input": {"count": 1, "ns": 100_000},
        "compute_infer": {"count": 1, "ns": 1_000_000},
        "compute_output": {"count": 1, "ns": 0},
        "cache_hit": _NEVER,
        "cache_miss": _NEVER,
    },
    "response_stats": {},
    "batch_stats": [{"batch_size": 1, "compute_input": _NEVER, "compute_infer": _ONCE, "compute_output": _NEVER}],
    "memory_usage": [],
}
STATISTICS: Json = {"texts": {"model_stats": [VERSION_STATISTICS]}}
