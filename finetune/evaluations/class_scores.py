"""What is known of one class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from finetune.intervals import Interval, wilson

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class's scores; a ratio without anything to count is 0, and its interval everything: (0, 1).

    Attributes:
        precision_ci: Wilson, as for ``recall_ci``; ``f1_ci`` is bootstrapped.
        support: how many rows (or entities) are of this class.
    """

    label: str
    precision: float
    precision_ci: Interval
    recall: float
    recall_ci: Interval
    f1: float
    f1_ci: Interval
    support: int

    def to_dict(self) -> Mapping[str, Any]:
        """Plain JSON types."""
        return {key: list(value) if isinstance(value, Interval) else value for key, value in asdict(self).items()}


def counted(label: str, *, hits: int, found: int, wanted: int, f1_ci: Interval) -> ClassScores:
    """Scores from counts.

    Args:
        hits: how many are rightly this class.
        found: how many were said to be.
        wanted: how many are.
        f1_ci: bootstrapped.
    """
    return ClassScores(
        label=label,
        precision=hits / found if found else 0.0,
        precision_ci=share_interval(hits, found),
        recall=hits / wanted if wanted else 0.0,
        recall_ci=share_interval(hits, wanted),
        f1=2 * hits / (found + wanted) if found + wanted else 0.0,
        f1_ci=f1_ci,
        support=wanted,
    )


def share_interval(hits: int, rows: int) -> Interval:
    """Wilson's; everything where nothing was counted."""
    return wilson(hits, rows, CONFIDENCE) if rows else Interval(0.0, 1.0)
