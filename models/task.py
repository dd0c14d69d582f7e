"""What is asked of a head, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from models.features import FeatureKind

Activation: TypeAlias = Literal["softmax", "sigmoid", "identity"]


class Task(StrEnum):
    """What is asked of the head.

    The shapes, for B rows, T tokens, C classes and D feature dimensions:

    | task | features | logits | answer |
    |---|---|---|---|
    | single-label | pooled (B, D) | (B, C) | one label, scores sum to 1 |
    | multi-label | pooled (B, D) | (B, C) | every label, scores are independent |
    | regression | pooled (B, D) | (B, 1) | one number |
    | token-classification | tokens (B, T, D) and mask (B, T) | (B, T, C) | spans |
    | embedding | pooled (B, D) | none: it has no head | the features |

    A pair (two texts) is one joint row for an encoder that takes segments, or two rows whose features are combined
    before the head; either way the head sees pooled features.
    """

    SINGLE_LABEL = "single-label"
    MULTI_LABEL = "multi-label"
    REGRESSION = "regression"
    TOKEN_CLASSIFICATION = "token-classification"
    EMBEDDING = "embedding"

    @property
    def traits(self) -> TaskTraits:
        return _TRAITS[self]


@dataclass(frozen=True, kw_only=True)
class TaskTraits:
    """What a task fixes for its head.

    Attributes:
        features: which features the head reads.
        activation: turns logits into scores.
        loss: ``cross_entropy``, ``binary_cross_entropy``, ``mean_squared_error`` or ``none``.
        primary_metric: the one number that choices are made by.
    """

    features: FeatureKind
    activation: Activation
    loss: str
    primary_metric: str


_TRAITS = {
    Task.SINGLE_LABEL: TaskTraits(
        features=FeatureKind.POOLED, activation="softmax", loss="cross_entropy", primary_metric="accuracy"
    ),
    Task.MULTI_LABEL: TaskTraits(
        features=FeatureKind.POOLED, activation="sigmoid", loss="binary_cross_entropy", primary_metric="macro_f1"
    ),
    Task.REGRESSION: TaskTraits(
        features=FeatureKind.POOLED, activation="identity", loss="mean_squared_error", primary_metric="spearman"
    ),
    Task.TOKEN_CLASSIFICATION: TaskTraits(
        features=FeatureKind.TOKENS, activation="softmax", loss="cross_entropy", primary_metric="entity_f1"
    ),
    Task.EMBEDDING: TaskTraits(features=FeatureKind.POOLED, activation="identity", loss="none", primary_metric="none"),
}
