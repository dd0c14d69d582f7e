"""From the scores of an instance to its prediction: one class for each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from models.batch import Row, TextRow
from models.entities import OUTSIDE, entities
from models.head import best
from models.manifest import Calibration
from models.task import Task

# Each (C,): one, or one for each word that has a token. Of an embedding, the one row of features: (D,).
Scores: TypeAlias = Sequence[NDArray[np.floating[Any]]]
Prediction: TypeAlias = dict[str, object]


class Answers(Protocol):
    """Makes the predictions of one version."""

    def __call__(self, scores: Scores, row: Row, top_k: int | None) -> Prediction:
        """The prediction for an instance.

        Args:
            scores: of its row.
            row: that was computed.
            top_k: how many scores to list, where scores are listed; all of them without.
        """
        ...


def answers_for(task: Task, labels: Sequence[str], calibration: Calibration) -> Answers:
    """Those of a task.

    Args:
        labels: in the order of the head's rows.
        calibration: has what the task needs.
    """
    match task:
        case Task.SINGLE_LABEL:
            return SingleLabel(labels)
        case Task.MULTI_LABEL:
            assert calibration.threshold is not None
            return MultiLabel(labels, calibration.threshold)
        case Task.REGRESSION:
            assert calibration.interval is not None
            return Value(calibration.interval)
        case Task.TOKEN_CLASSIFICATION:
            return Entities(labels)
        case Task.EMBEDDING:
            return Features()


class SingleLabel:
    """The best label, and the scores of the best ones, best first."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels

    def __call__(self, scores: Scores, row: Row, top_k: int | None) -> Prediction:
        labels, scores_C = self._labels, scores[0]
        ranking = best(scores_C, min(top_k or len(labels), len(labels)))
        listed = dict(zip([labels[i] for i in ranking], scores_C[ranking].tolist(), strict=True))
        label = labels[ranking[0]]
        return {"label": label, "score": listed[label], "scores": listed}


class MultiLabel:
    """The labels that hold, and the scores of the best ones, both best first.

    Args:
        threshold: of the score from which a label holds.
    """

    def __init__(self, labels: Sequence[str], threshold: float) -> None:
        self._labels = labels
        self._threshold = threshold

    def __call__(self, scores: Scores, row: Row, top_k: int | None) -> Prediction:
        labels, scores_C = self._labels, scores[0]
        holding = int(np.count_nonzero(scores_C >= self._threshold))
        listed = min(top_k or len(labels), len(labels))
        ranking = best(scores_C, max(holding, listed))
        names = [labels[i] for i in ranking]
        return {
            "labels": names[:holding],
            "scores": dict(zip(names[:listed], scores_C[ranking[:listed]].tolist(), strict=True)),
        }


class Value:
    """A number, and the interval that holds the true one in 90 % of cases.

    Args:
        interval: half of its width.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval

    def __call__(self, scores: Scores, row: Row, top_k: int | None) -> Prediction:
        value = float(scores[0][0])
        return {"value": value, "interval": [value - self._interval, value + self._interval]}


class Entities:
    """Runs of words, with their place in the text in code points.

    The score of an entity is that of its least certain word: it is right only if all of its words are.

    Args:
        tags: in BIO, in the order of the head's rows.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = tags

    def __call__(self, scores: Scores, row: Row, top_k: int | None) -> Prediction:
        assert isinstance(row, TextRow)
        assert row.words is not None
        words, remaining = row.words, iter(scores)
        tags, certainties = [], []
        for token in words.tokens:
            scores_C = next(remaining) if token >= 0 else None
            tags.append(OUTSIDE if scores_C is None else self._tags[int(scores_C.argmax())])
            certainties.append(0.0 if scores_C is None else float(scores_C.max()))
        found = []
        for label, first, last in entities(tags):
            start, end = words.spans[first][0], words.spans[last - 1][1]
            score = min(certainties[first:last])
            found.append({"label": label, "text": words.text[start:end], "start": start, "end": end, "score": score})
        return {"entities": found}


class Features:
    """The features as the backbone gives them, each number as short as its 32 bits can be told."""

    def __call__(self, scores: Scores, row: Row, top_k: int | None) -> Prediction:
        return {"embedding": orjson.Fragment(orjson.dumps(scores[0], option=orjson.OPT_SERIALIZE_NUMPY))}
