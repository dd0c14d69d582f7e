"""The mistakes that a model is surest of, in the test split: the rows whose labels are worth a second look."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.contact_sheet import Picture, contact_sheet
from finetune.example import Example
from finetune.markdown import escape, table
from finetune.predictions import Predictions, Scores
from models.task import Task

MOST_SHOWN = 12
FIGURE, FILE = "report/mistakes.png", "report/mistakes.json"

_MOST_LETTERS = 160
_WORDS_AROUND = 8


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One example whose label is not what the model says.

    Attributes:
        text: what the model read, shortened; None for an image.
        about: the label or the word in question, where an example has several.
        true: as the data has it.
        predicted: as the model has it.
        size: how sure the model is of that, 0 to 1; of a regression how far the two are apart.
    """

    example: Example
    text: str | None
    about: str
    true: str
    predicted: str
    size: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "source": self.example.source,
            "text": self.text,
            "about": self.about,
            "true": self.true,
            "predicted": self.predicted,
            "size": self.size,
        }


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """The largest mistakes of a test split, one an example.

    Attributes:
        rows: examples that were looked at.
        wrong: how many of them are not answered as they are labelled; of a regression None, for no value is met exactly.
        largest: the largest first; equal contents once.
    """

    task: Task
    rows: int
    wrong: int | None
    largest: Sequence[Mistake]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "task": str(self.task),
            "rows": self.rows,
            "wrong": self.wrong,
            "largest": [mistake.to_dict() for mistake in self.largest],
        }

    def files(self) -> Mapping[str, bytes]:
        """Figures and figures' numbers by their paths in a version; images are read from disk and shown as thumbnails."""
        files = {FILE: json.dumps(self.to_dict(), indent=1).encode()}
        if self._has_pictures:
            files[FIGURE] = contact_sheet(
                [
                    Picture(
                        example=mistake.example,
                        lines=(
                            f"labelled {mistake.true}",
                            f"predicted {mistake.predicted}",
                            _about(mistake, self.task),
                        ),
                    )
                    for mistake in self.largest
                ]
            )
        return files

    def markdown(self) -> list[str]:
        """Blocks for the model card."""
        regression = self.task is Task.REGRESSION
        if not self.largest:
            return [f"All {self.rows:,} test rows are answered as they are labelled."]
        count = (
            f"The {len(self.largest)} test rows whose values are furthest from what was predicted."
            if regression
            else f"{self.wrong:,} of {self.rows:,} test rows are not answered as they are labelled. Here are those that the "
            "model is surest of."
        )
        blocks = [
            f"{count} **Look at them: the label may be the mistake.** Well-known test sets have some 3 % wrong labels "
            "([Northcutt et al. 2021](https://arxiv.org/abs/2103.14749)). Look for the same slip in the training data too: a "
            "test split that is corrected only where the model disagrees flatters it.",
            self._table(),
        ]
        if self._has_pictures:
            blocks.append(f"![The mistakes that the model is surest of, in the order of the table]({FIGURE})")
        return blocks

    @property
    def _has_pictures(self) -> bool:
        return any(mistake.text is None for mistake in self.largest)

    def _table(self) -> str:
        what, true, predicted, size = _HEADER[self.task]
        rows = [
            (
                escape(mistake.example.source),
                *(() if mistake.text is None else (escape(mistake.text),)),
                *((escape(mistake.about),) if what else ()),
                escape(mistake.true),
                escape(mistake.predicted),
                _size(mistake, self.task),
            )
            for mistake in self.largest
        ]
        header = ("file",) if self._has_pictures else ("row", "text")
        return table((*header, *((what,) if what else ()), true, predicted, size), rows)


def find_mistakes(examples: Sequence[Example], predictions: Predictions, *, most: int = MOST_SHOWN) -> Mistakes:
    """The mistakes that a model is surest of; of a regression the largest differences.

    That such rows often are wrong in the data is the idea of confident learning (Northcutt et al. 2021, "Confident
    learning: estimating uncertainty in dataset labels").

    | task | one mistake is | its size |
    |---|---|---|
    | single-label | a wrong class | its score |
    | multi-label | a label too many or too few, the worst one of an example | distance of its score from the truth |
    | regression | a value | how far it is off |
    | token-classification | a word with a wrong tag, the worst one of an example | the tag's score |

    Args:
        examples: of the test split.
        predictions: of those examples, in their order.
        most: how many are kept.
    """
    find = _FINDERS[predictions.task]
    found = [
        mistake
        for example, answer, scores in zip(examples, predictions.answers, predictions.scores, strict=True)
        if answer != example.label and (mistake := find(example, scores, predictions)) is not None
    ]
    found.sort(key=lambda mistake: -mistake.size)
    distinct = {mistake.example.identity: mistake for mistake in reversed(found)}
    largest = [mistake for mistake in found if distinct[mistake.example.identity] is mistake]
    return Mistakes(
        task=predictions.task,
        rows=len(examples),
        wrong=None if predictions.task is Task.REGRESSION else len(found),
        largest=largest[:most],
    )


def _class(example: Example, scores_C: Scores, predictions: Predictions) -> Mistake:
    best = int(scores_C.argmax())
    return Mistake(
        example=example,
        text=_text(example),
        about="",
        true=str(example.label),
        predicted=predictions.classes[best],
        size=float(scores_C[best]),
    )


def _label(example: Example, scores_C: Scores, predictions: Predictions) -> Mistake:
    assert isinstance(example.label, tuple)
    assert predictions.threshold is not None
    truth_C = np.isin(predictions.classes, example.label)
    wrong_C = truth_C != (scores_C >= predictions.threshold)
    worst = int(np.where(wrong_C, np.abs(truth_C - scores_C), -1).argmax())
    holds = bool(truth_C[worst])
    return Mistake(
        example=example,
        text=_text(example),
        about=predictions.classes[worst],
        true="yes" if holds else "no",
        predicted="no" if holds else "yes",
        size=float(abs(holds - scores_C[worst])),
    )


def _value(example: Example, scores_C: Scores, predictions: Predictions) -> Mistake:
    assert isinstance(example.label, float)
    value = float(scores_C[0])
    return Mistake(
        example=example,
        text=_text(example),
        about="",
        true=_number(example.label),
        predicted=_number(value),
        size=abs(value - example.label),
    )


def _tag(example: Example, scores_WC: Scores, predictions: Predictions) -> Mistake | None:
    assert isinstance(example.text, str)
    assert isinstance(example.label, tuple)
    # Words that the model does not read are not its mistakes.
    wrong = [
        (float(scores_C.max()), word, predictions.classes[int(scores_C.argmax())])
        for word, (scores_C, tag) in enumerate(zip(scores_WC, example.label, strict=False))
        if not np.isnan(scores_C[0]) and predictions.classes[int(scores_C.argmax())] != tag
    ]
    if not wrong:
        return None
    size, word, predicted = max(wrong, key=lambda each: each[0])
    words = example.text.split()
    first, last = max(0, word - _WORDS_AROUND), word + _WORDS_AROUND + 1
    around = " ".join(["…"] * (first > 0) + words[first:last] + ["…"] * (last < len(words)))
    return Mistake(
        example=example,
        text=_shortened(around),
        about=words[word],
        true=example.label[word],
        predicted=predicted,
        size=size,
    )


_FINDERS: Mapping[Task, Callable[[Example, Scores, Predictions], Mistake | None]] = {
    Task.SINGLE_LABEL: _class,
    Task.MULTI_LABEL: _label,
    Task.REGRESSION: _value,
    Task.TOKEN_CLASSIFICATION: _tag,
}
_HEADER = {
    Task.SINGLE_LABEL: ("", "labelled", "predicted", "score"),
    Task.MULTI_LABEL: ("label", "in the data", "predicted", "how sure"),
    Task.REGRESSION: ("", "in the data", "predicted", "off by"),
    Task.TOKEN_CLASSIFICATION: ("word", "tagged", "predicted", "score"),
}


def _text(example: Example) -> str | None:
    """A text, or the two texts of a pair, on one line; None for an image."""
    return None if example.text is None else " / ".join(map(_shortened, example.texts))


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS].rstrip()}…"


def _size(mistake: Mistake, task: Task) -> str:
    return _number(mistake.size) if task is Task.REGRESSION else f"{mistake.size:.3f}"


def _number(value: float) -> str:
    """Four digits; all of them before the point."""
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _about(mistake: Mistake, task: Task) -> str:
    """The last line below a picture."""
    size = f"{_HEADER[task][3]} {_size(mistake, task)}"
    return f"{mistake.about}: {size}" if mistake.about else size
