"""A version in a worker's memory: from bytes to predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from models.backbone import Modality
from models.batch import ImageRow, PairRow, Row, text_length
from models.batch_cost import BatchCost
from models.batch_shape import next_size
from models.deadline import until
from models.errors import InvalidUtf8
from models.features import FeatureKind
from models.head import scores_by_head
from models.head_inputs import head_inputs
from models.manifest import Manifest
from models.predictor import Predictor
from models.preprocessor import RawItem
from models.task import Task
from service.messages import Form, Serving, unpack_pair
from service.worker.answers import Answers, answers_for
from service.worker.embedding import embedding
from service.worker.pending import PendingRow
from service.worker.pixels import PixelReader
from service.worker.servable import Computed, Prepared
from service.worker.tensors import ComputedRow, row_tensors

if TYPE_CHECKING:
    from models.text_preprocessor import TextPreprocessor


@dataclass(frozen=True, kw_only=True)
class LoadedVersion:
    """A version in memory; a `service.worker.servable.Servable`.

    Attributes:
        backbone: the digest of its backbone; versions with the same one, in the same precision, share engine and batches.
        serving: how it is computed here, for whoever asks.
        pixels: reads images that were prepared elsewhere.
    """

    manifest: Manifest
    backbone: str
    predictor: Predictor
    serving: Serving
    pixels: PixelReader | None = None

    @property
    def streams(self) -> int:
        return self.predictor.engine.streams

    @property
    def cost(self) -> BatchCost:
        return self.predictor.engine.cost

    @cached_property
    def kind(self) -> FeatureKind:
        """The features that its head reads."""
        return self.predictor.task.traits.features

    @cached_property
    def answers(self) -> Answers:
        """Makes predictions of its scores."""
        return answers_for(self.predictor.task, self.predictor.labels, self.predictor.calibration)

    def prepare(self, data: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
        """One instance as a row. Images share a batch with those of their shape, texts with texts of any length.

        Raises:
            InputError: what is wrong with it.
        """
        row = self._row(data, form, truncate=truncate)
        group = (self.backbone, self.predictor.engine.identity, self.kind)
        if isinstance(row, ImageRow):
            return Prepared(row, (*group, tuple(row.pixels_CHW.shape)))
        if isinstance(row, PairRow):
            return Prepared(row, group, next_size(text_length(row)), 2, len(row.first.ids) + len(row.second.ids))
        return Prepared(row, group, next_size(text_length(row)), 1, len(row.ids))

    def _row(self, data: bytes, form: Form, *, truncate: bool) -> Row:
        match form:
            case "item":
                return self.predictor.preprocessor.prepare(_raw_item(data, self.manifest), truncate=truncate)
            case "text":
                return self._texts.prepare_text(_text(data), truncate=truncate)
            case "tokens":
                return self._texts.prepare_tokens(np.frombuffer(data, "<i4").tolist(), truncate=truncate)
        assert self.pixels is not None
        return self.pixels.row(data, form)

    @property
    def _texts(self) -> TextPreprocessor:
        return cast("TextPreprocessor", self.predictor.preprocessor)

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Computed]:
        """One forward pass for all rows, then each through the head of its own version, but for those that are embeddings.

        Raises:
            MemoryError, DeviceFailed, EngineUnavailable, DeadlineExceeded: see `service.worker.servable.Servable`.
            FloatingPointError: a feature is not finite.
        """
        rows = [waiting.row for waiting in batch]
        versions = [v for v in (w.request.version for w in batch) if isinstance(v, LoadedVersion)]
        with until(max(waiting.request.deadline for waiting in batch)):  # of the most patient one
            features = self.predictor.engine.features(self.predictor.preprocessor.collate(rows), self.kind)
        has_head = [
            waiting.request.wish.embedding is None and version.predictor.task is not Task.EMBEDDING
            for waiting, version in zip(batch, versions, strict=True)
        ]
        vectors: list[list[NDArray[np.float32]]] = [[] for _ in rows]
        scores: list[list[NDArray[np.float64]]] = [[] for _ in rows]
        for inputs in head_inputs(features, rows):
            array_VD = inputs.vectors_VD.numpy()
            if not np.isfinite(array_VD).all():
                raise FloatingPointError("the backbone gave features that are not finite")  # JSON would say null
            for owner, vector_D in zip(inputs.owners, array_VD, strict=True):
                vectors[owner].append(vector_D)
            vectors_VD, owners = inputs.vectors_VD, inputs.owners
            if not all(has_head):
                places = [place for place, owner in enumerate(owners) if has_head[owner]]
                vectors_VD, owners = vectors_VD[places], [owners[place] for place in places]
            predictors = [versions[owner].predictor for owner in owners]
            found = scores_by_head(
                vectors_VD, [p.head for p in predictors], [p.calibration.temperature for p in predictors]
            )
            for owner, scores_C in zip(owners, found, strict=True):
                scores[owner].append(scores_C)
        return [_answer(*each) for each in zip(batch, versions, vectors, scores, strict=True)]


def _answer(
    waiting: PendingRow,
    version: LoadedVersion,
    vectors: Sequence[NDArray[np.float32]],
    scores: Sequence[NDArray[np.float64]],
) -> Computed:
    wish = waiting.request.wish
    if wish.embedding is not None:
        return [embedding(vectors[0], wish.embedding)]
    read = vectors if version.predictor.task is Task.EMBEDDING else scores
    predict = partial(version.answers, read, waiting.row, wish.top_k)
    if wish.outputs:
        row = ComputedRow(predictor=version.predictor, vectors=vectors, scores=scores, predict=predict)
        return row_tensors(row, wish.outputs)
    prediction = predict()
    if waiting.row.truncated:
        prediction["truncated"] = True
    return prediction


def _raw_item(data: bytes, manifest: Manifest) -> RawItem:
    if manifest.modality is Modality.IMAGE:
        return data
    if manifest.pair is None:
        return _text(data)
    first, second = unpack_pair(data)
    return _text(first), _text(second)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidUtf8("the text is not UTF-8") from None
