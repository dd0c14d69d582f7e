"""From fitted heads to a published version: files, golden inputs, the check before the rename."""

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
from models.manifest import (
    EMBEDDING_SCHEMA_VERSION,
    SCHEMA_VERSION,
    BackboneReference,
    Calibration,
    Data,
    EngineReference,
    HeadRecord,
    LabelChanges,
    Manifest,
    Training,
)
from models.precision import Precision
from models.predictor import Predictor, read_head
from models.preprocessor import ImagePreprocessorConfig, RawItem, TextPreprocessorConfig, build_preprocessor
from models.repository import ModelRepository
from models.task import Task
from models.version import ModelVersion

GOLDEN_ITEMS = 4
HEAD = "head.safetensors"
LIBRARIES = (
    "graftwork",
    "torch",
    "torchvision",
    "openvino",
    "timm",
    "transformers",
    "tokenizers",
    "scikit-learn",
    "numpy",
    "pillow",
)


@dataclass(frozen=True, kw_only=True)
class FittedHead:
    """A head for the features of one precision.

    Attributes:
        engine: computed the features that it was fitted on, and will compute those that it serves with.
        head: with the activation of the task; `Head.none` for an embedding.
        metrics: of the evaluation, as plain JSON; empty where there was none.
        agreement, refused: see `models.manifest.HeadRecord`.
    """

    engine: Engine
    head: Head
    calibration: Calibration = field(default_factory=Calibration)
    training: Training | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    agreement: float | None = None
    refused: str | None = None


@dataclass(frozen=True, kw_only=True)
class Graft:
    """Heads on a backbone, ready to be published.

    Attributes:
        preprocessor: says whether texts or pairs of them are read, and how.
        heads: by precision; there is one for fp32.
        labels: in the order of a head's rows; see `models.manifest.Manifest`.
        label_changes: since the version before, if that is known.
        golden_items: a few raw inputs; what each head answers for them is kept with the version.
        report: further files by relative path, such as figures.
        card: further facts for the model card, by the fields of `CardFacts`.
    """

    name: str
    backbone: StoredBackbone
    preprocessor: ImagePreprocessorConfig | TextPreprocessorConfig
    heads: Mapping[Precision, FittedHead]
    labels: Sequence[str]
    golden_items: Sequence[RawItem]
    task: Task = Task.SINGLE_LABEL
    data: Data | None = None
    label_changes: LabelChanges | None = None
    report: Mapping[str, bytes] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(fitted.head.activation != self.task.traits.activation for fitted in self.heads.values()):
            raise ValueError(f"the heads for {self.task} have the activation {self.task.traits.activation}")
        if any((fitted.head.classes == 0) is not self.is_embedding for fitted in self.heads.values()):
            raise ValueError("an embedding has no head, and all else has one")

    @property
    def is_embedding(self) -> bool:
        return self.task is Task.EMBEDDING

    @property
    def serving(self) -> Mapping[Precision, FittedHead]:
        """The heads that may serve; of the others the manifest tells, but nothing is kept."""
        return {precision: fitted for precision, fitted in self.heads.items() if fitted.refused is None}

    def predictor(self, precision: Precision, head: Head) -> Predictor:
        """The graft in memory, with its own head or one read back from disk."""
        fitted = self.heads[precision]
        return Predictor(
            preprocessor=build_preprocessor(self.preprocessor, self.backbone.directory, self.task.traits.features),
            engine=fitted.engine,
            head=head,
            labels=self.labels,
            task=self.task,
            calibration=fitted.calibration,
        )


def publish(repository: ModelRepository, graft: Graft) -> ModelVersion:
    """Publishes a graft as the next version of its name.

    The staged files are read back and must give the golden answers through the serving engine before they get a number.

    Raises:
        StorageFailed: the repository cannot be written.
        VersionCorrupt: what was staged does not answer as the graft in memory does.
    """
    config = graft.backbone.config
    created_at = datetime.now(UTC)
    manifest = Manifest(
        schema_version=EMBEDDING_SCHEMA_VERSION if graft.is_embedding else SCHEMA_VERSION,
        name=graft.name,
        number=1,
        task=graft.task,
        modality=config.modality,
        labels=tuple(graft.labels),
        backbone=BackboneReference(source=config.source, digest=graft.backbone.digest, feature_dim=config.feature_dim),
        preprocessor=graft.preprocessor,
        heads={precision: _record(fitted) for precision, fitted in graft.heads.items()},
        data=graft.data,
        label_changes=graft.label_changes,
        created_at=created_at,
        libraries={"python": platform.python_version(), **{name: library_version(name) for name in LIBRARIES}},
    )
    files = dict(graft.report)
    for precision, fitted in graft.serving.items():
        if not graft.is_embedding:
            files[precision.file(HEAD)] = fitted.head.to_bytes()
        files |= GoldenSet.of(graft.predictor(precision, fitted.head), graft.golden_items, precision).files()
    return repository.publish(
        manifest,
        files,
        check=lambda directory: _check(directory, manifest, graft),
        finish=lambda number: {"README.md": _card(graft, manifest, number).encode()},
    )


def _record(fitted: FittedHead) -> HeadRecord:
    return HeadRecord(
        engine=EngineReference(identity=fitted.engine.identity),
        calibration=fitted.calibration,
        training=fitted.training,
        metrics=dict(fitted.metrics),
        agreement=fitted.agreement,
        refused=fitted.refused,
    )


def _check(directory: Path, manifest: Manifest, graft: Graft) -> None:
    for precision in graft.serving:
        head = read_head(directory, manifest, precision)
        golden = GoldenSet.read(directory, manifest.modality, precision)
        golden.check(graft.predictor(precision, head))


def _card(graft: Graft, manifest: Manifest, number: int) -> str:
    calibration = manifest.reference.calibration
    facts = CardFacts(
        name=graft.name,
        version=number,
        modality=manifest.modality,
        backbone=manifest.backbone.source,
        classes=graft.labels,
        created=manifest.created_at.date().isoformat(),
        libraries=manifest.libraries,
        task=manifest.task,
        pair=manifest.pair is not None,
        temperature=calibration.temperature if manifest.task.traits.activation != "identity" else None,
        threshold=calibration.threshold,
        interval=calibration.interval,
        dimensions=manifest.backbone.feature_dim if graft.is_embedding else None,
        label_changes=manifest.label_changes,
        heads={precision: record.model_dump() for precision, record in manifest.heads.items()},
        **graft.card,
    )
    return model_card(facts)


def spread(items: Sequence[Any], count: int, key: Callable[[Any], str]) -> list[Any]:
    """A few items, the same ones whatever the order: the first by their key."""
    return sorted(items, key=key)[:count]
