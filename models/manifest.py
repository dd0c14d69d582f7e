"""Everything that a version says of itself: ``manifest.json``."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from models.backbone import Modality
from models.entities import is_tag
from models.features import FeatureKind
from models.precision import Precision
from models.preprocessor import PAIR_WIDTH, ImagePreprocessorConfig, PairReading, PreprocessorConfig
from models.task import Task

SCHEMA_VERSION = 4
EMBEDDING_SCHEMA_VERSION = 5  # the same, but without a head: who knows no such version says that it has to be upgraded
SCHEMAS = range(SCHEMA_VERSION, EMBEDDING_SCHEMA_VERSION + 1)

Setting: TypeAlias = str | int | float | bool


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneReference(_Part):
    """Which backbone a version stands on; the files lie under ``.backbones/<digest>``."""

    source: str
    digest: str
    feature_dim: int

    @property
    def public_source(self) -> str:
        """The source, for callers: of a directory its name only."""
        scheme, _, place = self.source.partition(":")
        return f"dir:{PurePath(place).name}" if scheme == "dir" else self.source


class EngineReference(_Part):
    """What computed the features that the head was fitted on."""

    identity: str


class Calibration(_Part):
    """What makes scores of logits that mean something.

    Attributes:
        temperature: that logits are divided by before the activation.
        threshold: multi-label: labels whose scores are at or above it are answered.
        interval: regression: half the width of the interval that holds 90 % of the true values (conformal prediction;
            Vovk et al. 2005), in the unit of the values.
    """

    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    threshold: float | None = Field(default=None, gt=0, lt=1)
    interval: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Training(_Part):
    """How the head was found, and how good it was on rows that it was not fitted on, none of them of the test split.

    Attributes:
        strategy: such as ``probe``.
        settings: of the strategy, those that were chosen among them.
        validation_metric: what ``validation_score`` is, such as ``accuracy``.
        validation_loss: what the settings were chosen by, of the same rows; in nats for classes.
        folds: of a cross-validation.
    """

    strategy: str
    seed: int
    settings: dict[str, Setting] = {}
    validated_on: Literal["cross-validation", "validation split"]
    validation_metric: str
    validation_score: float
    validation_loss: float
    folds: int | None = None


class HeadRecord(_Part):
    """A head for the features that a backbone gives in one precision; of an embedding, those features themselves.

    Attributes:
        metrics: the evaluation on the test split, each figure with its interval beside it; empty for an imported
            classifier.
        agreement: of an imported classifier: the share of fixed inputs for which it gives the label that fp32 gives; of an
            embedding: the mean cosine of fixed inputs with those of fp32.
        refused: why this head must not serve, and was not kept; None where it may.
    """

    engine: EngineReference
    calibration: Calibration
    training: Training | None = None
    metrics: dict[str, Any] = {}
    agreement: float | None = Field(default=None, ge=0, le=1)
    refused: str | None = None


class Data(_Part):
    """What the head was fitted on; ``fingerprint`` is a sha256 over contents, labels and splits."""

    source: str
    fingerprint: str
    train_size: int
    test_size: int
    findings: tuple[dict[str, Any], ...] = ()


class LabelChanges(_Part):
    """How the labels differ from those of an earlier version; those that both have are in the same order.

    Attributes:
        version: the number of the earlier version.
        added: labels that it did not have; they come after all others.
        removed: labels that only it had; those behind them have moved up.
        renamed: pairs of what a label was called and what it is called now, in the same place.
    """

    version: int = Field(ge=1)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()


class FileEntry(_Part):
    """A file of the version."""

    sha256: str
    size_bytes: int


class Manifest(_Part):
    """A version's own description.

    Attributes:
        labels: class names in the order of a head's rows; for tokens BIO tags, for a regression the one name of the value; none
            for an embedding, which has no head.
        heads: by precision; the one for fp32 is always there, and always may serve.
        label_changes: since the version before; None where there was none of the same task, or that is not known.
        files: every file of the version but this one, by relative path.
    """

    schema_version: int = Field(default=SCHEMA_VERSION, ge=SCHEMAS[0], le=SCHEMAS[-1])
    name: str
    number: int = Field(ge=1)
    task: Task
    modality: Modality
    labels: tuple[str, ...]
    backbone: BackboneReference
    preprocessor: PreprocessorConfig
    heads: dict[Precision, HeadRecord]
    data: Data | None = None
    label_changes: LabelChanges | None = None
    created_at: AwareDatetime
    libraries: dict[str, str]
    files: dict[str, FileEntry] = {}

    @model_validator(mode="after")
    def _has_a_head_that_serves(self) -> Manifest:
        if Precision.FP32 not in self.heads or self.heads[Precision.FP32].refused is not None:
            raise ValueError("a version has a head, or an embedding, for fp32 that may serve")
        return self

    @field_validator("files")
    @classmethod
    def _lie_in_the_version(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            parts = name.split("/")
            if not name.isprintable() or any(part in ("", ".", "..") for part in parts):
                raise ValueError("a file lies in the version's own directory")
        return files

    @model_validator(mode="after")
    def _reads_what_its_preprocessor_does(self) -> Manifest:
        if self.modality != self.preprocessor.modality:
            raise ValueError("preprocessor and backbone read the same")
        return self

    @model_validator(mode="after")
    def _fits_its_task(self) -> Manifest:
        task = self.task
        if (task is Task.EMBEDDING) is bool(self.labels):
            raise ValueError("a head has labels, and an embedding has none")
        if (task is Task.EMBEDDING) is not (self.schema_version == EMBEDDING_SCHEMA_VERSION):
            raise ValueError(f"schema {EMBEDDING_SCHEMA_VERSION} is that of embeddings, and of nothing else")
        if task is Task.EMBEDDING and self.pair is not None:
            raise ValueError("an embedding is that of one text or image")
        if task is Task.REGRESSION and len(self.labels) != 1:
            raise ValueError("a regression has one value")
        if task is Task.TOKEN_CLASSIFICATION and not (
            self.modality is Modality.TEXT and self.pair is None and all(map(is_tag, self.labels))
        ):
            raise ValueError("tokens are those of single texts, and their labels are BIO tags")
        for head in self.heads.values():
            if (head.calibration.threshold is not None) is not (task is Task.MULTI_LABEL):
                raise ValueError("a threshold belongs to multi-label")
            if (head.calibration.interval is not None) is not (task is Task.REGRESSION):
                raise ValueError("an interval belongs to regression")
        return self

    @property
    def pair(self) -> PairReading | None:
        """How a pair of texts is read; None for a model that reads single texts or images."""
        return None if isinstance(self.preprocessor, ImagePreprocessorConfig) else self.preprocessor.pair

    @property
    def head_dim(self) -> int:
        """The length of the vectors that a head reads."""
        return self.backbone.feature_dim * (PAIR_WIDTH if self.pair == "separate" else 1)

    @property
    def kind(self) -> FeatureKind:
        """The features that a head reads."""
        return self.task.traits.features

    @property
    def reference(self) -> HeadRecord:
        """The head for fp32, which others are compared with."""
        return self.heads[Precision.FP32]
