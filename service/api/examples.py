"""Good answers of V1 in the OpenAPI document, by the name of the example that they are the answer to.

Those for ``texts`` are of the model ``intents``, for ``pairs`` of ``duplicates``, for ``images`` of ``flowers``; where all are alike,
one stands for all.
"""

from __future__ import annotations

from service.api.schemas import Json

LIVE: Json = {"texts": {"live": True}}
READY: Json = {"texts": {"ready": True}}
METRICS: Json = {
    "texts": "# TYPE graftwork_ready gauge\ngraftwork_ready 1.0\n"
    'graftwork_requests_total{model="intents",outcome="ok",version="1"} 1.0\n'
}
OPENAPI: Json = {
    "texts": {"openapi": "3.1.1", "info": {"title": "Graftwork", "version": "0.1.0"}, "paths": {}, "components": {}}
}
PAGE: Json = {"texts": "<!doctype html>"}
SCRIPT: Json = {"script": '"use strict";'}
STYLE: Json = {"style": ".swagger-ui {}"}


def _predictions(model: str, *predictions: Json) -> Json:
    return {
        "predictions": list(predictions),
        "model": model,
        "version": 1,
        "request_id": "0f8fad5bd9cb469fa16570867728950e",
    }


PREDICTIONS: Json = {
    "texts": _predictions(
        "intents",
        {"label": "arrival", "score": 0.75, "scores": {"arrival": 0.75}},
        {"label": "lost_card", "score": 0.9, "scores": {"lost_card": 0.9}},
    ),
    "pairs": _predictions(
        "duplicates",
        {"label": "yes", "score": 0.75, "scores": {"yes": 0.75, "no": 0.25}},
        {"label": "no", "score": 0.9, "scores": {"no": 0.9, "yes": 0.1}},
    ),
    "images": _predictions(
        "flowers", {"label": "red", "score": 0.5, "scores": {"red": 0.5, "green": 0.25, "blue": 0.25}}
    ),
}

_DIGEST = "d492818cd5d5db174f48c46274cb1cf8d0ff4a5d6857807b4548822abac49fd1"


def _metadata(name: str, labels: list[str], source: str, feature_dim: int, **preprocessor: object) -> Json:
    return {
        "schema_version": 4,
        "name": name,
        "number": 1,
        "task": "single-label",
        "modality": preprocessor["modality"],
        "labels": labels,
        "backbone": {"source": source, "digest": _DIGEST, "feature_dim": feature_dim},
        "preprocessor": preprocessor,
        "heads": {
            "fp32": {
                "engine": {"identity": "openvino-2026.4.1/cpu/fp32"},
                "calibration": {"temperature": 1.25, "threshold": None, "interval": None},
                "training": {
                    "strategy": "probe",
                    "seed": 0,
                    "settings": {"c": 1.0},
                    "validated_on": "cross-validation",
                    "validation_metric": "accuracy",
                    "validation_score": 0.93,
                    "validation_loss": 0.25,
                    "folds": 5,
                },
                "metrics": {"accuracy": 0.92},
                "agreement": None,
                "refused": None,
            }
        },
        "data": {
            "source": "data.csv",
            "fingerprint": _DIGEST,
            "train_size": 800,
            "test_size": 200,
            "findings": [],
        },
        "label_changes": None,
        "created_at": "2026-01-01T00:00:00Z",
        "libraries": {"python": "3.11.7", "graftwork": "0.1.0"},
        "files": {"head.safetensors": {"sha256": _DIGEST, "size_bytes": 3232}},
        "serving": {"engine": "openvino-2026.4.1/cpu/fp32", "precision": "fp32", "reason": "the fastest"},
    }


_TEXT: Json = {"modality": "text", "max_tokens": 256, "pad_id": 0}
_IMAGE: Json = {"modality": "image", "input_size": [3, 224, 224], "interpolation": "bicubic"}
_TEXT_BACKBONE = ("embedded:all-MiniLM-L6-v2", 384)

METADATA: Json = {
    "texts": _metadata("intents", ["lost_card", "arrival"], *_TEXT_BACKBONE, **_TEXT, pair=None),
    "pairs": _metadata("duplicates", ["yes", "no"], *_TEXT_BACKBONE, **_TEXT, pair="separate"),
    "images": _metadata(
        *("flowers", ["red", "green", "blue"], "embedded:efficientnet_lite0", 1280),
        **_IMAGE,
        crop_pct=0.875,
        crop_mode="center",
    ),
}


def _change(version: int | None, before: int) -> Json:
    return {"texts": {"model": "intents", "alias": "champion", "version": version, "before": before}}


PROMOTED = _change(2, 1)
ROLLED_BACK = _change(1, 2)
UNALIASED = _change(None, 1)
DELETED: Json = {"texts": {"model": "intents", "version": 1, "deleted": True}}
KEPT: Json = {"texts": {"model": "intents", "keep": "latest:3"}}
