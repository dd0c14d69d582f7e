"""A version of a few bytes on a backbone of a few: enough for all that the repository does."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.backbone import BackboneConfig, Modality, backbone_digest
from models.manifest import (
    EMBEDDING_SCHEMA_VERSION,
    BackboneReference,
    Calibration,
    EngineReference,
    HeadRecord,
    Manifest,
)
from models.precision import Precision
from models.preprocessor import TextPreprocessorConfig
from models.repository import ModelRepository
from models.task import Task
from models.version import ModelVersion, Reference

BACKBONE_FILES = {
    "config.json": BackboneConfig(
        source="dir:x", library="transformers", architecture="bert", modality=Modality.TEXT, feature_dim=16
    ).to_json(),
    "model.safetensors": b"weights",
}
BACKBONE = backbone_digest(BACKBONE_FILES)
HEAD = HeadRecord(engine=EngineReference(identity="torch/cpu/fp32"), calibration=Calibration(temperature=1.5))
FILES = {"head.safetensors": b"weights", "report/figure.png": b"figure", "golden/expected.json": b"{}"}

EMBEDDING: dict[str, Any] = {  # what sets the manifest of one apart
    "schema_version": EMBEDDING_SCHEMA_VERSION,
    "task": Task.EMBEDDING,
    "labels": (),
}


def manifest(name: str = "flowers", **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "name": name,
        "number": 1,
        "task": Task.SINGLE_LABEL,
        "modality": Modality(changes["preprocessor"].modality) if "preprocessor" in changes else Modality.TEXT,
        "labels": ("no", "yes"),
        "backbone": BackboneReference(source="dir:x", digest=BACKBONE, feature_dim=16),
        "preprocessor": TextPreprocessorConfig(max_tokens=16),
        "heads": {Precision.FP32: HEAD},
        "created_at": datetime(2026, 11, 22, tzinfo=UTC),
        "libraries": {"torch": "2"},
    }
    return Manifest(**{**fields, **changes})


def publish(repository: ModelRepository, name: str = "flowers", **files: bytes) -> ModelVersion:
    place_backbone(repository)
    return repository.publish(
        manifest(name),
        {**FILES, **files},
        check=lambda directory: None,
        finish=lambda number: {"README.md": f"# {name}:{number}".encode()},
    )


def place_backbone(repository: ModelRepository, digest: str = BACKBONE) -> Path:
    """The backbone, or another one that is empty, without a step that a test would count."""
    directory = repository.backbones.root / digest
    with suppress(OSError):  # where nothing can be written, the publish is what shall say so
        directory.mkdir(parents=True)
        for name, data in BACKBONE_FILES.items() if digest == BACKBONE else ():
            (directory / name).write_bytes(data)
    return directory


def parse(text: str) -> Reference:
    return Reference.parse(text)


def leftovers(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob(".staging-*")]
