"""The manifest: what a version says of itself survives JSON, and nothing else passes for it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from models.manifest import SCHEMA_VERSION, Calibration, FileEntry, Manifest, Training
from models.precision import Precision
from models.preprocessor import ImagePreprocessorConfig, TextPreprocessorConfig
from tests.models.versions import HEAD, manifest

TRAINING = Training(
    strategy="probe",
    seed=0,
    settings={"regularisation_c": 0.01, "feature_scaling": "whiten-0.5", "layers": 2, "class_weights": True},
    validated_on="cross-validation",
    validation_metric="accuracy",
    validation_score=0.9,
    validation_loss=0.3,
    folds=5,
)
RECORD = json.loads(HEAD.model_dump_json())
IMAGES = ImagePreprocessorConfig(input_size=(3, 224, 224), interpolation="bicubic", crop_pct=0.875, crop_mode="center")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"heads": {Precision.FP32: HEAD.model_copy(update={"training": TRAINING})}},
        {"preprocessor": IMAGES},
        {"labels": ("ä", "\n", "a" * 300, "😀")},
        {"files": {"head.safetensors": FileEntry(sha256="0" * 64, size_bytes=3)}},
        {"heads": {Precision.FP32: HEAD.model_copy(update={"metrics": {"accuracy": 0.9, "accuracy_ci": [0.8, 0.95]}})}},
        {"heads": {Precision.FP32: HEAD, Precision.INT8: HEAD.model_copy(update={"refused": "it is wrong"})}},
    ],
)
def test_a_manifest_survives_json(changes: dict[str, Any]) -> None:
    original = manifest(**changes)
    assert Manifest.model_validate_json(original.model_dump_json()) == original


def test_the_preprocessor_says_its_modality() -> None:
    assert isinstance(Manifest.model_validate_json(manifest().model_dump_json()).preprocessor, TextPreprocessorConfig)
    images = manifest(preprocessor=IMAGES).model_dump_json()
    assert isinstance(Manifest.model_validate_json(images).preprocessor, ImagePreprocessorConfig)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": SCHEMA_VERSION + 1},
        {"schema_version": SCHEMA_VERSION - 1},
        {"schema_version": 0},
        {"number": 0},
        {"unknown": 1},
        {"task": "guessing"},
        {"heads": {"fp32": {**RECORD, "calibration": {"temperature": 0}}}},
        {"heads": {"fp32": {**RECORD, "calibration": {"temperature": -1}}}},
        {"heads": {"fp32": {**RECORD, "calibration": {"temperature": "Infinity"}}}},
        {"heads": {"fp32": {**RECORD, "calibration": {"temperature": "NaN"}}}},
        {"heads": {}},
        {"heads": {"int8": RECORD}},
        {"heads": {"fp32": {**RECORD, "refused": "it is wrong"}}},
        {"heads": {"fp32": RECORD, "int7": RECORD}},
        {"preprocessor": {"modality": "sound"}},
        {"created_at": "2026-11-22T00:00:00"},
        {"labels": "ab"},
        {"name": None},
    ],
)
def test_what_a_manifest_may_not_say(changes: dict[str, Any]) -> None:
    document = {**json.loads(manifest().model_dump_json()), **changes}
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(json.dumps(document))


def test_a_manifest_does_not_change() -> None:
    with pytest.raises(ValidationError):
        manifest().number = 2  # type: ignore[misc]


def test_times_have_a_zone() -> None:
    with pytest.raises(ValidationError):
        manifest(created_at=datetime(2026, 11, 22))


def test_scores_are_not_calibrated_unless_it_is_said() -> None:
    assert Calibration().temperature == 1
