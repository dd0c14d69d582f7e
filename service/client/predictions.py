"""What a model says, one class for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class SingleLabel:
    """The most probable label.

    Attributes:
        scores: probabilities by label, highest first; of the ``top_k`` best, or of all.
        truncated: only the start of the text was read.
        document: as it was sent.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    truncated: bool = False
    document: Document = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class MultiLabel:
    """The labels that hold, best first.

    Attributes:
        scores: probabilities by label, each for itself, highest first; of the ``top_k`` best, or of all.
        truncated: only the start of the text was read.
        document: as it was sent.
    """

    labels: tuple[str, ...]
    scores: Mapping[str, float]
    truncated: bool = False
    document: Document = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number.

    Attributes:
        interval: from and to; it holds the true value in 90 of 100 cases.
        truncated: only the start of the text was read.
        document: as it was sent.
    """

    value: float
    interval: tuple[float, float]
    truncated: bool = False
    document: Document = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A run of words.

    Attributes:
        start, end: its place in the text, in code points.
        score: the probability of its least certain word.
    """

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, kw_only=True)
class Entities:
    """The entities of a text, in their order.

    Attributes:
        truncated: only the start of the text was read.
        document: as it was sent.
    """

    entities: tuple[Entity, ...]
    truncated: bool = False
    document: Document = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a backbone makes of the item, of a model that is an embedding.

    Attributes:
        embedding: as the backbone gives it; `Client.embed` gives many, of length 1.
        truncated: only the start of the text was read.
        document: as it was sent.
    """

    embedding: tuple[float, ...]
    truncated: bool = False
    document: Document = field(repr=False, compare=False)


Prediction: TypeAlias = SingleLabel | MultiLabel | Value | Entities | Features


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One prediction for each item, in their order.

    Attributes:
        version: that all of them are from.
        request_id: of the last request that was sent for them.
    """

    model: str
    version: int
    request_id: str
    predictions: tuple[Prediction, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "predictions": [dict(prediction.document) for prediction in self.predictions],
            "model": self.model,
            "version": self.version,
            "request_id": self.request_id,
        }


def parse_prediction(document: Document) -> Prediction:
    """Reads a prediction, which its members tell the task of.

    Raises:
        KeyError, TypeError, ValueError: it is none that is known here.
    """
    truncated = bool(document.get("truncated", False))
    if "label" in document:
        return SingleLabel(
            label=document["label"],
            score=document["score"],
            scores=document["scores"],
            truncated=truncated,
            document=document,
        )
    if "labels" in document:
        return MultiLabel(
            labels=tuple(document["labels"]), scores=document["scores"], truncated=truncated, document=document
        )
    if "value" in document:
        low, high = document["interval"]
        return Value(value=document["value"], interval=(low, high), truncated=truncated, document=document)
    if "embedding" in document:
        return Features(embedding=tuple(document["embedding"]), truncated=truncated, document=document)
    return Entities(entities=_entities(document["entities"]), truncated=truncated, document=document)


def _entities(found: Sequence[Document]) -> tuple[Entity, ...]:
    return tuple(
        Entity(label=each["label"], text=each["text"], start=each["start"], end=each["end"], score=each["score"])
        for each in found
    )
