"""Manifests as older versions of Graftwork wrote them, by what ``git log -p -- models/manifest.py`` shows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from models.repository import ModelRepository
from tests.models.versions import BACKBONE, place_backbone

FILES = {
    "README.md": b"# flowers:1",
    "golden/expected.json": b"{}",
    "golden/features.safetensors": b"features",
    "head.safetensors": b"weights",
}
CALIBRATION = {"temperature": 1.25}
ENGINE = {"identity": "torch-2.7.0/cpu/fp32"}
TRAINING = {
    "strategy": "probe",
    "seed": 3,
    "regularisation_c": 0.5,
    "feature_scaling": "standardised",
    "folds": 5,
    "cross_validated_accuracy": 0.875,
    "cross_validated_log_loss": 0.31,
}
METRICS = {"accuracy": 0.9, "accuracy_ci": [0.8, 1.0]}
ALL_SCHEMAS: dict[str, Any] = {
    "name": "flowers",
    "number": 1,
    "task": "single-label",
    "modality": "text",
    "labels": ["no", "yes"],
    "backbone": {"source": "dir:x", "digest": BACKBONE, "feature_dim": 16},
    "preprocessor": {"modality": "text", "max_tokens": 16, "pad_id": 0},
    "data": {"source": "flowers.csv", "fingerprint": "a" * 64, "train_size": 80, "test_size": 20, "findings": []},
    "created_at": "2026-11-22T10:00:00Z",
    "libraries": {"torch": "2.7.0"},
    "files": {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)} for name, data in FILES.items()
    },
}


def schema_1(**changes: Any) -> dict[str, Any]:
    """One head, which the manifest speaks of itself. (The last ones of schema 1 kept golden features.)"""
    own = {"engine": ENGINE, "calibration": CALIBRATION, "training": TRAINING, "metrics": METRICS}
    return {"schema_version": 1, **ALL_SCHEMAS, **own, **changes}


def schema_2(**changes: Any) -> dict[str, Any]:
    """A head for each precision, all of them probes for one label."""
    fp32 = {
        "engine": ENGINE,
        "calibration": CALIBRATION,
        "training": TRAINING,
        "metrics": METRICS,
        "agreement": None,
        "refused": None,
    }
    int8 = {**fp32, "engine": {"identity": "openvino-2026.0/cpu/int8"}, "metrics": {}, "refused": "it loses too much"}
    return {"schema_version": 2, **ALL_SCHEMAS, "heads": {"fp32": fp32, "int8": int8}, **changes}


def schema_3(**changes: Any) -> dict[str, Any]:
    """Any strategy and any task; pairs of texts."""
    training = {
        "strategy": "full",
        "seed": 3,
        "settings": {"learning_rate": 0.001, "best_epoch": 4},
        "validated_on": "validation split",
        "validation_metric": "accuracy",
        "validation_score": 0.875,
        "validation_loss": 0.31,
        "folds": None,
    }
    fp32 = {
        "engine": ENGINE,
        "calibration": {**CALIBRATION, "threshold": None, "interval": None},
        "training": training,
        "metrics": METRICS,
        "agreement": None,
        "refused": None,
    }
    preprocessor = {**ALL_SCHEMAS["preprocessor"], "pair": "joint"}
    return {"schema_version": 3, **ALL_SCHEMAS, "preprocessor": preprocessor, "heads": {"fp32": fp32}, **changes}


def place(repository: ModelRepository, document: dict[str, Any]) -> Path:
    """Puts a version on disk as a publish would have left it; its manifest."""
    place_backbone(repository)
    directory = repository.root / document["name"] / str(document["number"])
    for name, data in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    (directory / "manifest.json").write_text(json.dumps(document, indent=1))
    return directory / "manifest.json"
