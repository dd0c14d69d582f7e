"""What an evaluation says, whatever the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from finetune.evaluations.class_scores import ClassScores
from finetune.intervals import Interval


class Evaluation(Protocol):
    """Scores of one model on one set of rows."""

    @property
    def rows(self) -> int:
        """Of the test split, or a part of it."""
        ...

    @property
    def beats_chance(self) -> bool:
        """Whether even the low end of the primary metric's interval is above what chance gives."""
        ...

    def summary(self) -> dict[str, Any]:
        """The single figures as plain JSON types, each interval as ``[low, high]`` beside its figure (``_ci``)."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        ...


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An `Evaluation` as a table of metrics.

    Attributes:
        rows: of the test split.
        metrics: by name, the primary one first.
        intervals: 95 % confidence intervals of some of them.
        chance: the primary metric where answers and rows have nothing to do with each other.
        per_class: labels, or types of entities.
        values_N2: of a regression the predicted and the true value of each row.
    """

    rows: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    chance: float
    per_class: tuple[ClassScores, ...] = ()
    values_N2: npt.NDArray[np.float64] | None = field(default=None, compare=False, repr=False)

    @property
    def primary(self) -> str:
        return next(iter(self.metrics))

    @property
    def beats_chance(self) -> bool:
        return self.intervals[self.primary].low > self.chance

    def summary(self) -> dict[str, Any]:
        figures: dict[str, Any] = {"rows": self.rows}
        for name, value in self.metrics.items():
            figures[name] = value
            if name in self.intervals:
                figures[f"{name}_ci"] = list(self.intervals[name])
        return {**figures, f"chance_{self.primary}": self.chance, "beats_chance": self.beats_chance}

    def to_dict(self) -> dict[str, Any]:
        return {**self.summary(), "per_class": [scores.to_dict() for scores in self.per_class]}
