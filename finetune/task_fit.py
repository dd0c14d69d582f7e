"""What fitting, calibrating and judging a head is for each task: from examples and their vectors to figures.

Shapes: N examples, V vectors (one an example, or one a word), D dimensions of a vector, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from finetune.calibration import fit_temperature, log_loss
from finetune.evaluations.evaluation import Evaluation
from finetune.evaluations.multi_label import evaluate_multi_label
from finetune.evaluations.regression import evaluate_regression
from finetune.evaluations.single_label import evaluate_single_label
from finetune.evaluations.tokens import evaluate_tokens
from finetune.example import Example, Label
from finetune.probes import multi_label, regression, tokens
from finetune.probes.folds import FOLDS, Units, assign_folds
from finetune.probes.probe import Candidate, Probe, Progress
from finetune.probes.single_label import fit_single_label
from finetune.probes.tokens import TaggedWords
from finetune.split import strata_of
from finetune.whitening import Targets
from models.head import Head, scores_by_head
from models.manifest import Calibration, Setting
from models.task import Task

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Examples, and what a head reads of them.

    Attributes:
        vectors_VD: fp32; those of an example lie one after the other.
        words: for each example which of its words have a vector; None where each example has one vector.
    """

    examples: Sequence[Example]
    vectors_VD: npt.NDArray[np.float32]
    words: Sequence[Sequence[int]] | None = None

    def places(self, chosen: Sequence[int]) -> npt.NDArray[np.intp]:
        """Where the vectors of some examples are."""
        if self.words is None:
            return np.array(chosen, dtype=np.intp)
        ends = np.cumsum([len(words) for words in self.words]).tolist()
        own = [np.arange(ends[i] - len(self.words[i]), ends[i]) for i in chosen]
        return np.concatenate(own) if own else np.zeros(0, dtype=np.intp)

    def part(self, chosen: Sequence[int]) -> Rows:
        """Some of the examples, ascending."""
        return Rows(
            examples=[self.examples[i] for i in chosen],
            vectors_VD=self.vectors_VD[self.places(chosen)],
            words=None if self.words is None else [self.words[i] for i in chosen],
        )

    def folds(self, task: Task, *, seed: int) -> npt.NDArray[np.int64]:
        """Which fold each example is held out in; folds are alike in the rarest labels of examples, or in their values.

        Raises:
            DatasetInvalid: there are no two different examples.
        """
        stratum_of = strata_of(self.examples, task, 1 / FOLDS)
        strata_N: Targets = np.unique([stratum_of(one.label) for one in self.examples], return_inverse=True)[1]
        contents_NX = self.vectors_VD if self.words is None else np.arange(len(self.examples))[:, None]
        return assign_folds(contents_NX, strata_N.reshape(-1), units=self.units, spare=False, seed=seed)

    @property
    def units(self) -> Units:
        """What each example belongs to: its content, and its group."""
        return [
            (("content", one.identity),) + ((("group", one.group),) if one.group is not None else ())
            for one in self.examples
        ]


class TaskFit(Protocol):
    """Fits, calibrates and judges the heads of one task."""

    def fit(self, rows: Rows, *, linear: bool = False, progress: Progress | None = None) -> Probe:
        """A head on the vectors as they are, chosen by cross-validation.

        Args:
            linear: leaves out heads with a hidden layer.

        Raises:
            DatasetInvalid: nothing can be held out.
        """
        ...

    def judge(self, rows: Rows, head: Head, settings: Mapping[str, Setting]) -> Candidate:
        """Calibration, primary metric and loss of a head, by rows that it was not fitted on."""
        ...

    def finished(self, head: Head, chosen: Candidate) -> Head:
        """A head with what `judge` chose for its weights: of token classification a margin (`finetune.probes.tokens`)."""
        ...

    def evaluate(self, rows: Rows, scores_VC: Scores) -> Evaluation:
        """What scores are worth, which a calibrated head gave to the rows' vectors."""
        ...


def task_fit(task: Task, classes: Sequence[str], calibration: Calibration | None = None, *, seed: int) -> TaskFit:
    """That of a task.

    Args:
        classes: in the order of a head's rows.
        calibration: for `TaskFit.evaluate`: which threshold and interval an answer has.
        seed: of folds and bootstraps.
    """
    found: TaskFit = _FITS[task](classes, calibration or Calibration(), seed)
    return found


def scores_of(head: Head, vectors_VD: npt.NDArray[np.float32], temperature: float) -> Scores:
    """Scores ``(V, C)`` through the kernel that serves."""
    count = len(vectors_VD)
    scores = scores_by_head(torch.from_numpy(vectors_VD), [head] * count, [temperature] * count)
    return np.reshape(scores, (count, head.classes))


def logits_of(head: Head, vectors_VD: npt.NDArray[np.float32]) -> Scores:
    """Logits ``(V, C)`` through the same kernel."""
    return scores_of(replace(head, activation="identity"), vectors_VD, 1.0)


@dataclass(frozen=True)
class _TaskFit:
    classes: Sequence[str]
    calibration: Calibration
    seed: int

    def finished(self, head: Head, _chosen: Candidate) -> Head:
        return head


class _SingleLabel(_TaskFit):
    def fit(self, rows: Rows, *, linear: bool = False, progress: Progress | None = None) -> Probe:
        return fit_single_label(
            rows.vectors_VD,
            self._targets(rows),
            class_count=len(self.classes),
            seed=self.seed,
            units=rows.units,
            linear=linear,
            progress=progress,
        )

    def judge(self, rows: Rows, head: Head, settings: Mapping[str, Setting]) -> Candidate:
        logits_NC, targets_N = logits_of(head, rows.vectors_VD), self._targets(rows)
        temperature = fit_temperature(logits_NC, targets_N)
        return Candidate(
            settings=settings,
            calibration=Calibration(temperature=temperature),
            score=float(np.mean(logits_NC.argmax(axis=1) == targets_N)),
            loss=log_loss(logits_NC, targets_N, temperature),
        )

    def evaluate(self, rows: Rows, scores_VC: Scores) -> Evaluation:
        return evaluate_single_label(scores_VC, self._targets(rows), classes=self.classes, seed=self.seed)

    def _targets(self, rows: Rows) -> npt.NDArray[np.int64]:
        index: dict[Label, int] = {label: i for i, label in enumerate(self.classes)}
        return np.array([index[example.label] for example in rows.examples], dtype=np.int64)


class _MultiLabel(_TaskFit):
    def fit(self, rows: Rows, *, linear: bool = False, progress: Progress | None = None) -> Probe:
        fold_N = rows.folds(Task.MULTI_LABEL, seed=self.seed)
        return multi_label.fit_multi_label(rows.vectors_VD, self._wanted(rows), fold_N, progress=progress)

    def judge(self, rows: Rows, head: Head, settings: Mapping[str, Setting]) -> Candidate:
        return multi_label.candidate(settings, logits_of(head, rows.vectors_VD), self._wanted(rows))

    def evaluate(self, rows: Rows, scores_VC: Scores) -> Evaluation:
        threshold = self.calibration.threshold
        assert threshold is not None
        return evaluate_multi_label(
            scores_VC, self._wanted(rows), threshold=threshold, classes=self.classes, seed=self.seed
        )

    def _wanted(self, rows: Rows) -> npt.NDArray[np.bool_]:
        index = {label: i for i, label in enumerate(self.classes)}
        wanted_NC = np.zeros((len(rows.examples), len(self.classes)), dtype=np.bool_)
        for row, example in enumerate(rows.examples):
            assert isinstance(example.label, tuple)
            wanted_NC[row, [index[label] for label in example.label]] = True
        return wanted_NC


class _Regression(_TaskFit):
    def fit(self, rows: Rows, *, linear: bool = False, progress: Progress | None = None) -> Probe:
        fold_N = rows.folds(Task.REGRESSION, seed=self.seed)
        return regression.fit_regression(rows.vectors_VD, self._values(rows), fold_N, progress=progress)

    def judge(self, rows: Rows, head: Head, settings: Mapping[str, Setting]) -> Candidate:
        return regression.candidate(settings, logits_of(head, rows.vectors_VD)[:, 0], self._values(rows))

    def evaluate(self, rows: Rows, scores_VC: Scores) -> Evaluation:
        interval = self.calibration.interval
        assert interval is not None
        return evaluate_regression(scores_VC[:, 0], self._values(rows), interval=interval, seed=self.seed)

    def _values(self, rows: Rows) -> npt.NDArray[np.float64]:
        return np.array([example.label for example in rows.examples], dtype=np.float64)


class _Tokens(_TaskFit):
    def fit(self, rows: Rows, *, linear: bool = False, progress: Progress | None = None) -> Probe:
        fold_N = rows.folds(Task.TOKEN_CLASSIFICATION, seed=self.seed)
        return tokens.fit_tokens(self._sentences(rows), fold_N, seed=self.seed, progress=progress)

    def judge(self, rows: Rows, head: Head, settings: Mapping[str, Setting]) -> Candidate:
        return tokens.with_margin(settings, logits_of(head, rows.vectors_VD), [self._sentences(rows)])

    def finished(self, head: Head, chosen: Candidate) -> Head:
        return tokens.lowered(head, self.classes, chosen)

    def evaluate(self, rows: Rows, scores_VC: Scores) -> Evaluation:
        sentences = self._sentences(rows)
        said = sentences.said(scores_VC.argmax(axis=1))
        return evaluate_tokens(said, sentences.tags, classes=self.classes, seed=self.seed)

    def _sentences(self, rows: Rows) -> TaggedWords:
        assert rows.words is not None
        return TaggedWords(
            features_VD=rows.vectors_VD,
            words=rows.words,
            tags=[example.label for example in rows.examples if isinstance(example.label, tuple)],
            classes=self.classes,
        )


_FITS: Mapping[Task, Any] = {
    Task.SINGLE_LABEL: _SingleLabel,
    Task.MULTI_LABEL: _MultiLabel,
    Task.REGRESSION: _Regression,
    Task.TOKEN_CLASSIFICATION: _Tokens,
}
