"""What a model says of labelled examples, whatever its task.

Shapes: C classes, D feature dimensions, V vectors that a head reads, W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from finetune.example import Example, Label, Progress
from models.entities import OUTSIDE
from models.task import Task

if TYPE_CHECKING:
    from models.predictor import Predictor

Scores: TypeAlias = npt.NDArray[np.floating[Any]]

BATCH_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Scores of examples, and the labels that follow from them.

    Attributes:
        task: what was asked.
        classes: in the order of the scores: labels, tags, or the name of the value.
        scores: of each example ``(C,)``. For token classification ``(W, C)``: of each word up to the last one that the
            model reads, and NaN for a word of which the tokenizer leaves nothing; see `by_word`.
        threshold: multi-label: of the score from which a label holds.
    """

    task: Task
    classes: Sequence[str]
    scores: Sequence[Scores]
    threshold: float | None = None

    @classmethod
    def of(
        cls,
        scores_VC: Scores,
        words: Sequence[Sequence[int]] | None = None,
        *,
        task: Task,
        classes: Sequence[str],
        threshold: float | None = None,
    ) -> Predictions:
        """From scores as heads give them: one row an example, or one for each word that has a token.

        Args:
            words: for each example which of its words have a token; None where each example has one row.
        """
        scores = list(scores_VC) if words is None else by_word(scores_VC, words)
        return cls(task=task, classes=classes, scores=scores, threshold=threshold)

    def part(self, rows: Sequence[int]) -> Predictions:
        """Those of some examples."""
        return replace(self, scores=[self.scores[row] for row in rows])

    @cached_property
    def answers(self) -> Sequence[Label]:
        """What each example is predicted to be, in the form of `finetune.example.Label`."""
        return [self._answer(scores) for scores in self.scores]

    def _answer(self, scores: Scores) -> Label:
        match self.task:
            case Task.REGRESSION:
                return float(scores[0])
            case Task.MULTI_LABEL:
                assert self.threshold is not None
                holding = np.flatnonzero(scores >= self.threshold).tolist()
                return tuple(sorted(self.classes[index] for index in holding))
            case Task.TOKEN_CLASSIFICATION:
                return tuple(
                    OUTSIDE if np.isnan(scores_C[0]) else self.classes[int(scores_C.argmax())] for scores_C in scores
                )
            case _:
                return self.classes[int(scores.argmax())]


def by_word(values_VX: Scores, words: Sequence[Sequence[int]]) -> list[Scores]:
    """Values of those words that have a token, laid out by example: ``(W, X)`` each, NaN for the other words.

    Args:
        values_VX: of all examples, one after the other.
        words: for each example which of its words have a token, ascending.
    """
    found, start = [], 0
    for own in words:
        values_WX = np.full((max(own, default=-1) + 1, values_VX.shape[1]), np.nan)
        values_WX[list(own)] = values_VX[start : start + len(own)]
        found.append(values_WX)
        start += len(own)
    return found


def predict(predictor: Predictor, examples: Sequence[Example], progress: Progress | None = None) -> Predictions:
    """Asks a version in memory.

    Args:
        predictor: of the examples' task and modality.
        examples: in any order; texts of similar length share a batch.
        progress: called with (done, total).

    Raises:
        DatasetInvalid: an image file is gone or changed.
        InputError: an example cannot be answered.
    """
    order = sorted(range(len(examples)), key=lambda index: sum(map(len, examples[index].texts)))
    batches = [order[start : start + BATCH_ROWS] for start in range(0, len(order), BATCH_ROWS)]

    def scores_of(batch: Sequence[int]) -> Sequence[Scores]:
        items = [examples[index].read() for index in batch]
        scores_VC: Scores = predictor.predict(items).numpy()
        if predictor.task is not Task.TOKEN_CLASSIFICATION:
            return list(scores_VC)
        rows: Any = [predictor.preprocessor.prepare(item, truncate=True) for item in items]
        return by_word(scores_VC, [row.words.read for row in rows])

    scores: list[Scores] = [np.empty(0)] * len(examples)
    done = 0
    with ThreadPoolExecutor(predictor.engine.streams + 1) as pool:  # one more reads and decodes
        for batch, found in zip(batches, pool.map(scores_of, batches), strict=True):
            for index, own in zip(batch, found, strict=True):
                scores[index] = own
            done += len(batch)
            if progress is not None:
                progress(done, len(examples))
    return Predictions(
        task=predictor.task,
        classes=predictor.labels,
        scores=scores,
        threshold=predictor.calibration.threshold,
    )
