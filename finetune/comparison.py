"""Two versions on the same test rows, resampled in pairs.

Shapes: N rows, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.example import Example
from finetune.intervals import Interval, bootstrap, percentile
from finetune.markdown import escape
from finetune.predictions import Predictions
from finetune.primary_metric import METRICS, Metric
from models.task import Task

RESAMPLES = 2000
FEWEST_DIFFERING = (
    6  # of five that all speak for one side, a sign test says p = 0.06 (McNemar 1947): a bootstrap is too sure
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two versions on the same rows, by their task's primary metric.

    Attributes:
        previous: the earlier version, such as ``flowers:3``.
        rows: number of test rows.
        differing: on how many of them the two differ: one is right and one is wrong, or, of answers that may be more or
            less right, they are not the same.
        score: of the new version.
        previous_score: of the earlier one.
        interval: 95 %, of the difference.
        chance_better: the share of resamples in which the new version is better; one in which they are equal counts half.
        caveat: which rows are left out, or why the earlier version may look better than it is; None where there is neither.
    """

    previous: str
    metric: str
    rows: int
    differing: int
    score: float
    previous_score: float
    interval: Interval
    chance_better: float
    caveat: str | None = None

    @property
    def difference(self) -> float:
        """Above 0 where the new version is better."""
        return self.score - self.previous_score

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the interval leaves 0 out and enough rows differ, else ``no clear difference``."""
        if self.differing < FEWEST_DIFFERING or self.interval.low <= 0 <= self.interval.high:
            return "no clear difference"
        return "better" if self.difference > 0 else "worse"

    @property
    def sentence(self) -> str:
        """All of it in a sentence, for a console."""
        if not self.differing:
            return f"{self.previous} does as well on each of the {self.rows:,} test rows: {self.verdict}"
        return (
            f"{self.metric.replace('_', ' ').replace('f1', 'F1')} {self.score:.3f}, {self.previous} has {self.previous_score:.3f} on the same "
            f"{self.rows:,} rows: {self.difference:+.3f} (95 %: {self.interval.low:+.3f} to {self.interval.high:+.3f}), "
            f"better with a chance of {_percent(self.chance_better)}: {self.verdict}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "previous": self.previous,
            "metric": self.metric,
            "rows": self.rows,
            "differing": self.differing,
            "score": self.score,
            "previous_score": self.previous_score,
            "difference": self.difference,
            "difference_ci": list(self.interval),
            "chance_better": self.chance_better,
            "verdict": self.verdict,
            "caveat": self.caveat,
        }

    def markdown(self) -> list[str]:
        """Blocks for the model card."""
        blocks = [f"{escape(self.sentence[0].upper() + self.sentence[1:])}."]
        if self.differing:
            blocks.append(
                f"The two differ on {self.differing:,} rows. Interval and chance are those of a paired bootstrap: rows are "
                "drawn again and again, for both versions the same."
            )
        return blocks if self.caveat is None else [*blocks, f"{escape(self.caveat)}."]


def compare(
    examples: Sequence[Example],
    predictions: Predictions,
    earlier: Predictions,
    *,
    previous: str,
    seed: int,
    metric: Metric | None = None,
    caveat: str | None = None,
) -> Comparison:
    """Compares what two versions say of the same rows, by a paired bootstrap (Efron and Tibshirani 1993, chapter 16).

    Args:
        examples: the test split, one at least.
        predictions: of the new version, for the examples in their order.
        earlier: of the other one.
        previous: what that is called.
        seed: of the bootstrap.
        metric: the task's primary one without.
        caveat: see `Comparison`.
    """
    name = predictions.task.traits.primary_metric
    metric = metric or METRICS[name]
    truths = [example.label for example in examples]
    differing = sum(
        one != other and (predictions.task is not Task.SINGLE_LABEL or truth in (one, other))
        for truth, one, other in zip(truths, predictions.answers, earlier.answers, strict=True)
    )
    new, old = metric(truths, predictions.answers), metric(truths, earlier.answers)

    def scores(rows_RN: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        return np.column_stack([new(rows_RN), old(rows_RN)])

    score, previous_score = scores(np.arange(len(examples))[None])[0].tolist()
    resampled_R2 = bootstrap(scores, len(examples), seed=seed, resamples=RESAMPLES)
    gain_R = resampled_R2[:, 0] - resampled_R2[:, 1]
    return Comparison(
        previous=previous,
        metric=name,
        rows=len(examples),
        differing=differing,
        score=score,
        previous_score=previous_score,
        interval=percentile(score - previous_score, gain_R),
        chance_better=float((gain_R > 0).mean() + (gain_R == 0).mean() / 2),
        caveat=caveat,
    )


def _percent(share: float) -> str:
    """Never 0 or 100 %: so many resamples were not drawn."""
    percent = round(100 * share)
    return "over 99 %" if percent == 100 else "under 1 %" if percent == 0 else f"{percent} %"
