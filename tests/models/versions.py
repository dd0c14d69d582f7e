"""A version of a few bytes on an empty backbone: enough for all that the repository does."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.backbone import Modality
from models.manifest import BackboneReference, Calibration, EngineReference, HeadRecord, Manifest
from models.precision import Precision
from models.preprocessor import TextPreprocessorConfig
from models.repository import ModelRepository
from models.task import Task
from models.version import ModelVersion, Reference

BACKBONE = "0" * 64
HEAD = HeadRecord(engine=EngineReference(identity="torch/cpu/fp32"), calibration=Calibration(temperature=1.5))
FILES = {"head.safetensors": b"weights", "report/figure.png": b"figure", "golden/expected.json": b"{}"}


def manifest(name: str = "flowers", **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "name": name,
        "number": 1,
        "task": Task.SINGLE_LABEL,
        "modality": Modality.TEXT,
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
    """An empty backbone."""
    directory = repository.backbones.root / digest
    with suppress(NotADirectoryError):
        directory.mkdir(parents=True, exist_ok=True)
    return directory


def parse(text: str) -> Reference:
    return Reference.parse(text)


def leftovers(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob(".staging-*")]
