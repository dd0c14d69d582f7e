"""Everything that a version says of itself: ``manifest.json``."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from models.backbone import Modality
from models.precision import Precision
from models.preprocessor import PreprocessorConfig
from models.task import Task

SCHEMA_VERSION = 2


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneReference(_Part):
    """Which backbone a version stands on; the files lie under ``.backbones/<digest>``."""

    source: str
    digest: str
    feature_dim: int


class EngineReference(_Part):
    """What computed the features that the head was fitted on."""

    identity: str


class Calibration(_Part):
    """Logits are divided by ``temperature`` before the softmax."""

    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class Training(_Part):
    """How the head was found."""

    strategy: str
    seed: int
    regularisation_c: float
    feature_scaling: str
    folds: int
    cross_validated_accuracy: float
    cross_validated_log_loss: float


class HeadRecord(_Part):
    """A head for the features that a backbone gives in one precision.

    Attributes:
        metrics: the evaluation on the test split, each figure with its interval beside it; empty for an imported
            classifier.
        agreement: of an imported classifier: the share of fixed inputs for which it gives the label that fp32 gives.
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


class FileEntry(_Part):
    """A file of the version."""

    sha256: str
    size_bytes: int


class Manifest(_Part):
    """A version's own description.

    Attributes:
        labels: class names in the order of a head's rows.
        heads: by precision; the one for fp32 is always there, and always may serve.
        files: every file of the version but this one, by relative path.
    """

    schema_version: int = Field(default=SCHEMA_VERSION, ge=SCHEMA_VERSION, le=SCHEMA_VERSION)
    name: str
    number: int = Field(ge=1)
    task: Task
    modality: Modality
    labels: tuple[str, ...]
    backbone: BackboneReference
    preprocessor: PreprocessorConfig
    heads: dict[Precision, HeadRecord]
    data: Data | None = None
    created_at: AwareDatetime
    libraries: dict[str, str]
    files: dict[str, FileEntry] = {}

    @model_validator(mode="after")
    def _has_a_head_that_serves(self) -> Manifest:
        if Precision.FP32 not in self.heads or self.heads[Precision.FP32].refused is not None:
            raise ValueError("a version has a head for fp32 that may serve")
        return self

    @property
    def reference(self) -> HeadRecord:
        """The head for fp32, which others are compared with."""
        return self.heads[Precision.FP32]
