"""From a fitted head to a published version: files, golden inputs, the check before the rename."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

from finetune.card import CardFacts, model_card
from models.backbone_store import StoredBackbone
from models.engine import Engine
from models.golden import GoldenSet
from models.head import Head
from models.manifest import BackboneReference, Calibration, Data, EngineReference, Manifest, Training
from models.predictor import Predictor
from models.preprocessor import ImagePreprocessorConfig, RawItem, TextPreprocessorConfig, build_preprocessor
from models.repository import ModelRepository
from models.task import Task
from models.version import ModelVersion

GOLDEN_ITEMS = 4
LIBRARIES = (
    "graftwork",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "tokenizers",
    "scikit-learn",
    "numpy",
    "pillow",
)


@dataclass(frozen=True, kw_only=True)
class Graft:
    """A head on a backbone, ready to be published.

    Attributes:
        golden_items: a few raw inputs; what the graft answers for them is kept with the version.
        metrics: of the evaluation, as plain JSON; empty where there was none.
        report: further files by relative path, such as figures.
        card: further facts for the model card, by the fields of `CardFacts`.
    """

    name: str
    backbone: StoredBackbone
    engine: Engine
    preprocessor: ImagePreprocessorConfig | TextPreprocessorConfig
    head: Head
    labels: Sequence[str]
    temperature: float
    golden_items: Sequence[RawItem]
    training: Training | None = None
    data: Data | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, bytes] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    def predictor(self, head: Head) -> Predictor:
        """The graft in memory, with its own head or one read back from disk."""
        return Predictor(
            preprocessor=build_preprocessor(self.preprocessor, self.backbone.directory),
            engine=self.engine,
            head=head,
            labels=self.labels,
            temperature=self.temperature,
        )


def publish(repository: ModelRepository, graft: Graft) -> ModelVersion:
    """Publishes a graft as the next version of its name.

    The staged files are read back and must give the golden answers through the serving engine before they get a number.

    Raises:
        StorageFailed: the repository cannot be written.
        VersionCorrupt: what was staged does not answer as the graft in memory does.
    """
    config = graft.backbone.config
    golden = GoldenSet.of(graft.predictor(graft.head), graft.golden_items)
    created_at = datetime.now(UTC)
    manifest = Manifest(
        name=graft.name,
        number=1,
        task=Task.SINGLE_LABEL,
        modality=config.modality,
        labels=tuple(graft.labels),
        backbone=BackboneReference(source=config.source, digest=graft.backbone.digest, feature_dim=config.feature_dim),
        preprocessor=graft.preprocessor,
        engine=EngineReference(identity=graft.engine.identity),
        calibration=Calibration(temperature=graft.temperature),
        training=graft.training,
        data=graft.data,
        metrics=dict(graft.metrics),
        created_at=created_at,
        libraries={"python": platform.python_version(), **{name: library_version(name) for name in LIBRARIES}},
    )
    files = {"head.safetensors": graft.head.to_bytes(), **golden.files(), **graft.report}
    return repository.publish(
        manifest,
        files,
        check=lambda directory: _check(directory, graft),
        finish=lambda number: {"README.md": _card(graft, manifest, number).encode()},
    )


def _check(directory: Path, graft: Graft) -> None:
    head = Head.from_bytes((directory / "head.safetensors").read_bytes())
    GoldenSet.read(directory, graft.backbone.config.modality).check(graft.predictor(head))


def _card(graft: Graft, manifest: Manifest, number: int) -> str:
    facts = CardFacts(
        name=graft.name,
        version=number,
        modality=manifest.modality,
        backbone=manifest.backbone.source,
        classes=graft.labels,
        created=manifest.created_at.date().isoformat(),
        libraries=manifest.libraries,
        temperature=graft.temperature,
        **graft.card,
    )
    return model_card(facts)


def spread(items: Sequence[Any], count: int, key: Callable[[Any], str]) -> list[Any]:
    """A few items, the same ones whatever the order: the first by their key."""
    return sorted(items, key=key)[:count]
