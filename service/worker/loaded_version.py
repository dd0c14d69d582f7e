"""A version in a worker's memory: from bytes to predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.backbone import Modality
from models.batch import TextRow
from models.batch_cost import BatchCost
from models.errors import InvalidUtf8
from models.features import FeatureKind
from models.head import best, scores_by_head
from models.manifest import Manifest
from models.predictor import Predictor
from models.preprocessor import RawItem
from service.messages import Serving
from service.worker.pending import PendingRow
from service.worker.servable import Prepared


@dataclass(frozen=True, kw_only=True)
class LoadedVersion:
    """A version in memory; a `service.worker.servable.Servable`.

    Attributes:
        backbone: the digest of its backbone; versions with the same one, in the same precision, share engine and batches.
        serving: how it is computed here, for whoever asks.
    """

    manifest: Manifest
    backbone: str
    predictor: Predictor
    serving: Serving

    @property
    def streams(self) -> int:
        return self.predictor.engine.streams

    @property
    def cost(self) -> BatchCost:
        return self.predictor.engine.cost

    def prepare(self, item: bytes, *, truncate: bool) -> Prepared:
        """One image file or text as a row. Images share a batch with those of their shape, texts with texts of any length.

        Raises:
            InputError: what is wrong with it.
        """
        row = self.predictor.preprocessor.prepare(_raw_item(item, self.manifest.modality), truncate=truncate)
        group = (self.backbone, self.predictor.engine.identity, FeatureKind.POOLED)
        if isinstance(row, TextRow):
            return Prepared(row, group, max(1, len(row.ids)))
        return Prepared(row, (*group, tuple(row.pixels_CHW.shape)))

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Mapping[str, object]]:
        """One forward pass for all rows, then each through the head of its own version.

        Raises:
            MemoryError, DeviceFailed: see `service.worker.servable.Servable`.
            FloatingPointError: a feature is not finite.
        """
        rows = self.predictor.preprocessor.collate([waiting.row for waiting in batch])
        features_BD = self.predictor.engine.features(rows, FeatureKind.POOLED).values
        if not np.isfinite(features_BD.numpy()).all():
            raise FloatingPointError("the backbone gave features that are not finite")  # JSON would say null
        predictors = [v.predictor for v in (w.request.version for w in batch) if isinstance(v, LoadedVersion)]
        scores = scores_by_head(features_BD, [p.head for p in predictors], [p.temperature for p in predictors])
        return [_prediction(*each) for each in zip(batch, predictors, scores, strict=True)]


def _prediction(waiting: PendingRow, predictor: Predictor, scores_C: NDArray[np.float64]) -> Mapping[str, object]:
    """The answer for a row: the best label, and the scores of the ``top_k`` best, best first."""
    labels = predictor.labels
    ranking = best(scores_C, min(waiting.request.top_k or len(labels), len(labels)))
    scores = dict(zip([labels[i] for i in ranking], scores_C[ranking].tolist(), strict=True))
    label = labels[ranking[0]]
    prediction: dict[str, object] = {"label": label, "score": scores[label], "scores": scores}
    if isinstance(waiting.row, TextRow) and waiting.row.truncated:
        prediction["truncated"] = True
    return prediction


def _raw_item(data: bytes, modality: Modality) -> RawItem:
    if modality is Modality.IMAGE:
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidUtf8("the text is not UTF-8") from None
