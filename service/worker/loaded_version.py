"""A version in a worker's memory: from bytes to predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from models.backbone import Modality
from models.batch import TextRow
from models.batch_cost import BatchCost
from models.errors import InvalidUtf8
from models.features import FeatureKind
from models.head import logits_by_head, probabilities
from models.manifest import Manifest
from models.predictor import Predictor
from models.preprocessor import RawItem
from service.worker.pending import PendingRow
from service.worker.servable import Prepared


@dataclass(frozen=True, kw_only=True)
class LoadedVersion:
    """A version in memory; a `service.worker.servable.Servable`.

    Attributes:
        backbone: the digest of its backbone; versions with the same one share engine and batches.
    """

    manifest: Manifest
    backbone: str
    predictor: Predictor

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
        if not features_BD.isfinite().all():
            raise FloatingPointError("the backbone gave features that are not finite")  # JSON would say null
        versions = [waiting.request.version for waiting in batch]
        logits = logits_by_head(features_BD, [v.predictor.head for v in versions if isinstance(v, LoadedVersion)])
        return [_prediction(waiting, logits_C) for waiting, logits_C in zip(batch, logits, strict=True)]


def _prediction(waiting: PendingRow, logits_C: torch.Tensor) -> Mapping[str, object]:
    """The answer for a row: the best label, and the scores of the ``top_k`` best, best first."""
    version = waiting.request.version
    assert isinstance(version, LoadedVersion)
    predictor = version.predictor
    scores_C = probabilities(logits_C, predictor.temperature)
    count = min(waiting.request.top_k or len(predictor.labels), len(predictor.labels))
    best = scores_C.topk(count)
    scores = {predictor.labels[i]: s for i, s in zip(best.indices.tolist(), best.values.tolist(), strict=True)}
    label = next(iter(scores))
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
