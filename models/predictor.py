"""A version in memory: everything between raw inputs and calibrated scores, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.engine import Engine
from models.errors import VersionCorrupt
from models.features import FeatureKind
from models.head import Head, scores_by_head
from models.manifest import Manifest
from models.precision import Precision
from models.preprocessor import Preprocessor, RawItem


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
    temperature: float

    def predict(self, items: Sequence[RawItem]) -> torch.Tensor:
        """Scores of raw items, as one batch.

        Args:
            items: texts, or the bytes of image files; texts that are too long are cut.

        Returns:
            Probabilities ``(N, C)``, float64.

        Raises:
            InputError: an item cannot be answered.
        """
        return self.scores(self.features(items))

    def features(self, items: Sequence[RawItem]) -> torch.Tensor:
        """What the backbone makes of raw items, as one batch: ``(N, D)``, fp32. Raises as `predict`."""
        rows = [self.preprocessor.prepare(item, truncate=True) for item in items]
        return self.engine.features(self.preprocessor.collate(rows), FeatureKind.POOLED).values

    def scores(self, features_ND: torch.Tensor) -> torch.Tensor:
        """What the head makes of features: probabilities ``(N, C)``, float64."""
        count = len(features_ND)
        return torch.from_numpy(np.stack(scores_by_head(features_ND, [self.head] * count, [self.temperature] * count)))


def read_head(directory: Path, manifest: Manifest, precision: Precision = Precision.FP32) -> Head:
    """The head for one precision of a version's directory, checked against its manifest.

    Raises:
        VersionCorrupt: it is damaged, or its shape is not what the manifest says.
    """
    version = f"{manifest.name}:{manifest.number}"
    try:
        head = Head.from_bytes((directory / precision.file("head.safetensors")).read_bytes())
    except OSError:
        raise VersionCorrupt(f"the head of {version} cannot be read; publish the model again") from None
    except ValueError as error:
        raise VersionCorrupt(f"the head of {version} is damaged: {error}") from None
    wanted = (len(manifest.labels), manifest.backbone.feature_dim)
    if tuple(head.weight_CD.shape) != wanted:
        raise VersionCorrupt(
            f"the head of {version} has shape {tuple(head.weight_CD.shape)}, its manifest says {wanted}"
        )
    return head
