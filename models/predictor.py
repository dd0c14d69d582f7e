"""A version in memory: everything between raw inputs and calibrated scores, in one process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from models import storage
from models.backbone import BackboneConfig
from models.engine import Engine
from models.errors import VersionCorrupt
from models.head import Head, scores_by_head
from models.head_inputs import head_inputs
from models.manifest import Calibration, Manifest
from models.precision import Precision
from models.preprocessor import Preprocessor, RawItem, TextPreprocessorConfig
from models.task import Task


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Preprocessor, engine and head of one version.

    Training checks a version with it before publishing, the server after loading; the server's request path uses the
    same parts, batched over models.
    """

    preprocessor: Preprocessor
    engine: Engine
    head: Head
    labels: Sequence[str]
    task: Task = Task.SINGLE_LABEL
    calibration: Calibration = field(default_factory=Calibration)

    def predict(self, items: Sequence[RawItem]) -> torch.Tensor:
        """Scores of raw items, as one batch.

        Args:
            items: texts, pairs of them, or the bytes of image files; texts that are too long are cut.

        Returns:
            Scores ``(V, C)``, float64: one row an item, or one a word where the task is about words.

        Raises:
            InputError: an item cannot be answered.
        """
        return self.scores(self.features(items))

    def features(self, items: Sequence[RawItem]) -> torch.Tensor:
        """The vectors that the head reads of raw items, as one batch: ``(V, D)``, fp32. Raises as `predict`."""
        rows = [self.preprocessor.prepare(item, truncate=True) for item in items]
        features = self.engine.features(self.preprocessor.collate(rows), self.task.traits.features)
        (inputs,) = head_inputs(features, rows)
        return inputs.vectors_VD

    def scores(self, vectors_VD: torch.Tensor) -> torch.Tensor:
        """What the head makes of vectors: ``(V, C)``, float64."""
        count = len(vectors_VD)
        scores = scores_by_head(vectors_VD, [self.head] * count, [self.calibration.temperature] * count)
        return torch.from_numpy(np.reshape(scores, (count, self.head.classes)))


def read_head(directory: Path, manifest: Manifest, precision: Precision = Precision.FP32) -> Head:
    """The head for one precision of a version's directory, checked against its manifest; `Head.none` of an embedding.

    Raises:
        VersionCorrupt: it is damaged, or its shape is not what the manifest says.
    """
    if manifest.task is Task.EMBEDDING:
        return Head.none(manifest.head_dim)
    version = f"{manifest.name}:{manifest.number}"
    try:
        data = storage.read_file(directory / precision.file("head.safetensors"))
        head = Head.from_bytes(data, manifest.task.traits.activation)
    except OSError:
        raise VersionCorrupt(f"the head of {version} cannot be read; publish the model again") from None
    except ValueError as error:
        raise VersionCorrupt(f"the head of {version} is damaged: {error}") from None
    wanted = (len(manifest.labels), manifest.head_dim)
    if (head.classes, head.feature_dim) != wanted:
        raise VersionCorrupt(
            f"the head of {version} has shape {(head.classes, head.feature_dim)}, its manifest says {wanted}"
        )
    return head


def check_reads(manifest: Manifest, backbone: BackboneConfig) -> None:
    """Raises `VersionCorrupt` unless a version's backbone is one of the kind that its manifest says."""
    version = f"{manifest.name}:{manifest.number}"
    if (manifest.modality, manifest.backbone.feature_dim) != (backbone.modality, backbone.feature_dim):
        raise VersionCorrupt(
            f"the backbone of {version} makes {backbone.feature_dim} features of a {backbone.modality}, its manifest says "
            f"{manifest.backbone.feature_dim} of a {manifest.modality}"
        )
    preprocessor = manifest.preprocessor
    if isinstance(preprocessor, TextPreprocessorConfig) and preprocessor.max_tokens > (backbone.max_tokens or math.inf):
        raise VersionCorrupt(
            f"the backbone of {version} reads {backbone.max_tokens} tokens, its manifest says {preprocessor.max_tokens}"
        )
