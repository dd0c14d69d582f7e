"""The manifest: what a version says of itself survives JSON, and nothing else passes for it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from models.backbone import Modality
from models.features import FeatureKind
from models.manifest import SCHEMA_VERSION, BackboneReference, Calibration, FileEntry, Manifest, Training
from models.precision import Precision
from models.preprocessor import ImagePreprocessorConfig, PairReading, TextPreprocessorConfig
from models.task import Task
from tests.models.versions import EMBEDDING, HEAD, manifest

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
THRESHOLD = HEAD.model_copy(update={"calibration": Calibration(threshold=0.4)})
INTERVAL = HEAD.model_copy(update={"calibration": Calibration(interval=0.0)})
SEPARATE = TextPreprocessorConfig(max_tokens=16, pair="separate")
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
        {"task": Task.MULTI_LABEL, "heads": {Precision.FP32: THRESHOLD}},
        {"task": Task.REGRESSION, "labels": ("price",), "heads": {Precision.FP32: INTERVAL}},
        {"task": Task.TOKEN_CLASSIFICATION, "labels": ("B-x", "I-x", "O")},
        {"preprocessor": SEPARATE},
        EMBEDDING,
        {**EMBEDDING, "preprocessor": IMAGES},
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
        {"labels": []},
        {"task": "embedding"},
        {"task": "embedding", "labels": []},  # in the schema of all others
        {**EMBEDDING, "labels": ["a"]},
        {**EMBEDDING, "heads": {}},
        {**EMBEDDING, "preprocessor": {**SEPARATE.model_dump(), "pair": "joint"}},
        {**EMBEDDING, "heads": {"fp32": {**RECORD, "calibration": {"threshold": 0.5}}}},
        {**EMBEDDING, "schema_version": SCHEMA_VERSION + 2},
        {"task": "multi-label"},  # without a threshold
        {"heads": {"fp32": {**RECORD, "calibration": {"threshold": 0.5}}}},
        *(
            {"task": "multi-label", "heads": {"fp32": {**RECORD, "calibration": {"threshold": threshold}}}}
            for threshold in (0, 1, -0.5, "NaN")
        ),
        {"task": "regression", "labels": ["price"]},  # without an interval
        {"task": "regression", "heads": {"fp32": {**RECORD, "calibration": {"interval": 1}}}},  # two values
        *(
            {
                "task": "regression",
                "labels": ["price"],
                "heads": {"fp32": {**RECORD, "calibration": {"interval": interval}}},
            }
            for interval in (-1, "Infinity", "NaN")
        ),
        {"heads": {"fp32": {**RECORD, "calibration": {"interval": 1}}}},
        {"task": "token-classification"},
        {"task": "token-classification", "labels": ["O", "B-"]},
        {"task": "token-classification", "labels": ["O"], "modality": "image"},
        {"task": "token-classification", "labels": ["O"], "preprocessor": SEPARATE.model_dump()},
        {"preprocessor": {**SEPARATE.model_dump(), "pair": "both"}},
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


@pytest.mark.parametrize(("pair", "head_dim"), [(None, 16), ("joint", 16), ("separate", 64)])
def test_a_head_reads_one_vector_or_four(pair: PairReading | None, head_dim: int) -> None:
    found = manifest(preprocessor=TextPreprocessorConfig(max_tokens=16, pair=pair))
    assert (found.pair, found.head_dim) == (pair, head_dim)


def test_images_are_no_pairs() -> None:
    assert manifest(preprocessor=IMAGES).pair is None


def test_a_task_says_which_features_a_head_reads() -> None:
    assert manifest().kind is FeatureKind.POOLED
    assert manifest(task=Task.TOKEN_CLASSIFICATION, labels=("O",)).kind is FeatureKind.TOKENS


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("timm:resnet50", "timm:resnet50"),
        ("hf:org/name", "hf:org/name"),
        ("dir:/home/somebody/secret/bert", "dir:bert"),
        ("dir:bert/", "dir:bert"),
        ("scratch:lstm", "scratch:lstm"),
    ],
)
def test_callers_are_told_no_directory_of_the_machine_that_published(source: str, told: str) -> None:
    assert BackboneReference(source=source, digest="0", feature_dim=1).public_source == told


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../outside", "golden/../../outside", "a//b", "./a", "golden/", "a\nb", "a\x1b[2Jb", "\0"],
)
def test_a_file_of_a_version_lies_in_it(name: str) -> None:
    with pytest.raises(ValidationError, match="a file lies in the version's own directory"):
        manifest(files={name: FileEntry(sha256="0" * 64, size_bytes=3)})


def test_a_manifest_and_its_preprocessor_read_the_same() -> None:
    with pytest.raises(ValidationError, match="preprocessor and backbone read the same"):
        manifest(preprocessor=IMAGES, modality=Modality.TEXT)
