"""A row's part of the tensors that its request asks for, as raw bytes: little-endian, as the wire has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.signature import (
    EMBEDDING,
    ENTITIES,
    HOLDS,
    INTERVAL,
    LABEL,
    LOGITS,
    PROBABILITIES,
    VALUE,
)
from service.messages import pack_element

if TYPE_CHECKING:
    from models.predictor import Predictor
    from service.worker.answers import Prediction


@dataclass(frozen=True, kw_only=True)
class ComputedRow:
    """What was computed of a row.

    Attributes:
        predictor: of its version.
        vectors: each (D,), that its head has read.
        scores: one a vector, each (C,).
        predict: makes its prediction.
    """

    predictor: Predictor
    vectors: Sequence[NDArray[np.float32]]
    scores: Sequence[NDArray[np.float64]]
    predict: Callable[[], Prediction]


def row_tensors(row: ComputedRow, names: Sequence[str]) -> Sequence[bytes]:
    """Its part of each tensor, by name."""
    return [_PARTS[name](row) for name in names]


def _floats(values: Any) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


def _logits(row: ComputedRow) -> bytes:
    logits_C = row.predictor.head.logits(row.vectors[0][None], [0])
    return _floats(logits_C / row.predictor.calibration.temperature)


def _label(row: ComputedRow) -> bytes:
    return pack_element(row.predictor.labels[int(row.scores[0].argmax())].encode())


def _holds(row: ComputedRow) -> bytes:
    threshold = row.predictor.calibration.threshold
    assert threshold is not None
    return (row.scores[0] >= threshold).tobytes()


_PARTS: Mapping[str, Callable[[ComputedRow], bytes]] = {
    PROBABILITIES: lambda row: _floats(row.scores[0]),
    LOGITS: _logits,
    LABEL: _label,
    HOLDS: _holds,
    VALUE: lambda row: _floats(row.predict()["value"]),
    INTERVAL: lambda row: _floats(row.predict()["interval"]),
    ENTITIES: lambda row: pack_element(orjson.dumps(row.predict()["entities"])),
    EMBEDDING: lambda row: _floats(row.vectors[0]),
}
