"""What a classifier is worth on rows that it never saw.

Shapes: N rows, C classes, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.evaluations.class_scores import CONFIDENCE, ClassScores, share_interval
from finetune.evaluations.resamples import RESAMPLES
from finetune.intervals import Interval, bootstrap, percentile, wilson

RELIABILITY_BINS = 15

# A sum of C float16 scores is off by up to this; a row further off is no distribution.
_SUM_TOLERANCE = 1e-2


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The rows whose confidence lies in ``(low, high]``; only bins with rows exist.

    Attributes:
        confidence: mean confidence of the rows.
        accuracy: share of the rows that were predicted right.
        count: number of rows.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True, kw_only=True)
class SingleLabelEvaluation:
    """Scores of one classifier on one set of rows, each ``_ci`` a 95 % confidence interval.

    Attributes:
        classes: labels in the order of the classifier's columns.
        rows: N.
        accuracy: share of rows predicted right; Wilson interval.
        macro_f1: unweighted mean F1 over the classes that occur among the targets or the predictions; a class that
            never occurs says nothing and is left out. Percentile bootstrap interval, as are those below.
        ece: expected calibration error of the top prediction over 15 bins of equal width, as in Guo et al. 2017, "On
            calibration of modern neural networks"; 0 is perfect.
        log_loss: mean negative log probability of the true class, in nats.
        balanced_accuracy: unweighted mean recall over the classes that occur among the targets.
        majority_class: the most frequent class among the targets.
        majority_accuracy: accuracy of always answering ``majority_class``: chance.
        per_class: in the order of ``classes``.
        reliability: by rising confidence.
        confusion_CC: number of rows by true class (rows) and predicted class (columns).
    """

    classes: tuple[str, ...]
    rows: int
    accuracy: float
    accuracy_ci: Interval
    macro_f1: float
    macro_f1_ci: Interval
    ece: float
    ece_ci: Interval
    log_loss: float
    log_loss_ci: Interval
    balanced_accuracy: float
    majority_class: str
    majority_accuracy: float
    per_class: tuple[ClassScores, ...]
    reliability: tuple[ReliabilityBin, ...]
    confusion_CC: npt.NDArray[np.int64] = field(compare=False, repr=False)

    @property
    def beats_chance(self) -> bool:
        """Whether even the low end of the accuracy's interval is above always answering the most frequent class."""
        return self.accuracy_ci.low > self.majority_accuracy

    def summary(self) -> dict[str, Any]:
        """The single figures as plain JSON types, each interval as ``[low, high]`` beside its figure."""
        return {
            "rows": self.rows,
            "accuracy": self.accuracy,
            "accuracy_ci": list(self.accuracy_ci),
            "macro_f1": self.macro_f1,
            "macro_f1_ci": list(self.macro_f1_ci),
            "ece": self.ece,
            "ece_ci": list(self.ece_ci),
            "log_loss": self.log_loss,
            "log_loss_ci": list(self.log_loss_ci),
            "balanced_accuracy": self.balanced_accuracy,
            "majority_class": self.majority_class,
            "majority_accuracy": self.majority_accuracy,
            "beats_chance": self.beats_chance,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types: `summary`, ``per_class``, ``reliability`` and ``confusion``.

        ``confusion`` lists ``[true label, predicted label, rows]`` for the pairs that occur, most rows first, which
        stays small with many classes.
        """
        true_K, predicted_K = np.nonzero(self.confusion_CC)
        pairs = sorted(
            zip(true_K.tolist(), predicted_K.tolist(), self.confusion_CC[true_K, predicted_K].tolist(), strict=True),
            key=lambda pair: (-pair[2], pair[0], pair[1]),
        )
        return {
            **self.summary(),
            "per_class": [scores.to_dict() for scores in self.per_class],
            "reliability": [asdict(bin_) for bin_ in self.reliability],
            "confusion": [[self.classes[true], self.classes[predicted], count] for true, predicted, count in pairs],
        }


def evaluate_single_label(
    probabilities_NC: npt.NDArray[np.floating[Any]],
    targets_N: npt.NDArray[np.integer[Any]],
    *,
    classes: Sequence[str],
    seed: int,
) -> SingleLabelEvaluation:
    """Scores predictions against the truth.

    Args:
        probabilities_NC: a distribution over the classes for each row.
        targets_N: the true class of each row, as a column of ``probabilities_NC``.
        classes: C distinct labels.
        seed: seeds the bootstrap; equal seeds give equal intervals.

    Raises:
        ValueError: no rows, shapes that do not fit, a target that is no class, or rows that are no distributions.
    """
    _check(probabilities_NC, targets_N, classes)
    row_count, class_count = probabilities_NC.shape
    rows_N = np.arange(row_count)
    probabilities_NC = probabilities_NC.astype(np.float64)
    predictions_N = probabilities_NC.argmax(axis=1)
    confidence_N = probabilities_NC.max(axis=1)
    correct_N = predictions_N == targets_N
    # Clipped as scikit-learn's log_loss does, so that one impossible row gives a large loss, not an infinite one.
    loss_N = -np.log(probabilities_NC[rows_N, targets_N].clip(np.finfo(np.float64).eps, 1))
    bin_N = (np.ceil(confidence_N * RELIABILITY_BINS).astype(np.intp) - 1).clip(0, RELIABILITY_BINS - 1)
    gap_N = confidence_N - correct_N

    def scores(rows_RN: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        macro_R, f1_RC = _f1(targets_N[rows_RN], predictions_N[rows_RN], class_count)
        gap_RB = _count(bin_N[rows_RN], RELIABILITY_BINS, gap_N[rows_RN])
        figures = [macro_R, np.abs(gap_RB).sum(axis=1) / row_count, loss_N[rows_RN].mean(axis=1)]
        return np.column_stack([*figures, f1_RC])

    macro_f1, ece, log_loss, *f1_C = scores(rows_N[None])[0].tolist()
    resampled_RK = bootstrap(scores, row_count, seed=seed, resamples=RESAMPLES)

    support_C = np.bincount(targets_N, minlength=class_count)
    predicted_C = np.bincount(predictions_N, minlength=class_count)
    hits_C = np.bincount(targets_N[correct_N], minlength=class_count)
    precision_C, recall_C = hits_C / np.maximum(predicted_C, 1), hits_C / np.maximum(support_C, 1)
    confusion_CC = np.zeros((class_count, class_count), dtype=np.int64)
    np.add.at(confusion_CC, (targets_N, predictions_N), 1)
    confusion_CC.setflags(write=False)
    right = int(correct_N.sum())
    majority = int(support_C.argmax())
    return SingleLabelEvaluation(
        classes=tuple(classes),
        rows=row_count,
        accuracy=right / row_count,
        accuracy_ci=wilson(right, row_count, CONFIDENCE),
        macro_f1=macro_f1,
        macro_f1_ci=percentile(macro_f1, resampled_RK[:, 0], CONFIDENCE),
        ece=ece,
        ece_ci=percentile(ece, resampled_RK[:, 1], CONFIDENCE),
        log_loss=log_loss,
        log_loss_ci=percentile(log_loss, resampled_RK[:, 2], CONFIDENCE),
        balanced_accuracy=float(recall_C[support_C > 0].mean()),
        majority_class=classes[majority],
        majority_accuracy=int(support_C[majority]) / row_count,
        per_class=tuple(
            ClassScores(
                label=label,
                precision=float(precision_C[c]),
                precision_ci=share_interval(int(hits_C[c]), int(predicted_C[c])),
                recall=float(recall_C[c]),
                recall_ci=share_interval(int(hits_C[c]), int(support_C[c])),
                f1=f1_C[c],
                f1_ci=percentile(f1_C[c], resampled_RK[:, 3 + c], CONFIDENCE),
                support=int(support_C[c]),
            )
            for c, label in enumerate(classes)
        ),
        reliability=_reliability(bin_N, confidence_N, correct_N),
        confusion_CC=confusion_CC,
    )


def _check(
    probabilities_NC: npt.NDArray[np.floating[Any]], targets_N: npt.NDArray[np.integer[Any]], classes: Sequence[str]
) -> None:
    if len(set(classes)) != len(classes):
        raise ValueError("classes must be distinct")
    if targets_N.ndim != 1 or probabilities_NC.shape != (len(targets_N), len(classes)):
        raise ValueError(
            f"targets of shape {targets_N.shape} and {len(classes)} classes need probabilities of shape "
            f"({len(targets_N)}, {len(classes)}), not {probabilities_NC.shape}"
        )
    if len(targets_N) == 0:
        raise ValueError("an evaluation needs at least one row; give the test split some rows")
    if targets_N.min() < 0 or targets_N.max() >= len(classes):
        raise ValueError(f"targets must be 0 to {len(classes) - 1}, the columns of the probabilities")
    sums_N = probabilities_NC.sum(axis=1, dtype=np.float64)
    # `not all(<=)` also catches NaN.
    if probabilities_NC.min() < 0 or not (np.abs(sums_N - 1) <= _SUM_TOLERANCE).all():
        raise ValueError("each row of the probabilities must be non-negative and sum to 1")


def _count(
    values_RN: npt.NDArray[np.integer[Any]], size: int, weights_RN: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """For each resample how often each of the values 0 to ``size - 1`` occurs, or the sum of its weights: (R, size)."""
    resamples = len(values_RN)
    keys_RN = values_RN + np.arange(resamples)[:, None] * size
    weights = None if weights_RN is None else weights_RN.ravel()
    counts = np.bincount(keys_RN.ravel(), weights, resamples * size).astype(np.float64)
    return counts.reshape(resamples, size)


def _f1(
    targets_RN: npt.NDArray[np.integer[Any]], predictions_RN: npt.NDArray[np.integer[Any]], class_count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Each resample's mean F1 over the classes that occur in it (R,), and its F1 for each class (R, C)."""
    hits_RC = _count(targets_RN, class_count, (targets_RN == predictions_RN).astype(np.float64))
    seen_RC = _count(targets_RN, class_count) + _count(predictions_RN, class_count)
    f1_RC = 2 * hits_RC / np.maximum(seen_RC, 1)
    return f1_RC.sum(axis=1) / np.count_nonzero(seen_RC, axis=1), f1_RC


def _reliability(
    bin_N: npt.NDArray[np.intp], confidence_N: npt.NDArray[np.float64], correct_N: npt.NDArray[np.bool_]
) -> tuple[ReliabilityBin, ...]:
    return tuple(
        ReliabilityBin(
            low=int(number) / RELIABILITY_BINS,
            high=(int(number) + 1) / RELIABILITY_BINS,
            confidence=float(confidence_N[bin_N == number].mean()),
            accuracy=float(correct_N[bin_N == number].mean()),
            count=int((bin_N == number).sum()),
        )
        for number in np.unique(bin_N)
    )
