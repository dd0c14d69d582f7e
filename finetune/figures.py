"""What an evaluation looks like: figures, as PNG bytes. Equal evaluations give equal bytes.

Shapes: C classes, of which K are shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from finetune.canvas import GREY, INK, PALE, SKY, VERMILLION, draw, drawable, title
from finetune.evaluations.evaluation import Evaluation, Measured
from finetune.evaluations.metrics import METRICS
from finetune.evaluations.single_label import SingleLabelEvaluation
from finetune.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 40
MOST_CLASSES_WHEN_CHOSEN = 30
MOST_CLASSES_WITH_PERCENT = 12


class ReportFigure(NamedTuple):
    """A figure of a version; ``file`` is its relative path."""

    title: str
    file: str
    png: bytes


def figures_of(evaluation: Evaluation) -> list[ReportFigure]:
    """The figures that go with an evaluation."""
    if isinstance(evaluation, SingleLabelEvaluation):
        return [
            ReportFigure("Confusion matrix", "report/confusion_matrix.png", confusion_matrix_png(evaluation)),
            ReportFigure("Reliability diagram", "report/reliability.png", reliability_png(evaluation)),
        ]
    assert isinstance(evaluation, Measured)
    if evaluation.values_N2 is not None:
        return [ReportFigure("Predicted and true values", "report/values.png", values_png(evaluation))]
    return [ReportFigure("F1 by class", "report/f1.png", f1_png(evaluation))]


def values_png(evaluation: Measured) -> bytes:
    """Predicted against true values, one dot a row; a perfect model's lie on the diagonal."""
    assert evaluation.values_N2 is not None
    found_N, wanted_N = evaluation.values_N2.T
    low, high = float(evaluation.values_N2.min()), float(evaluation.values_N2.max())
    room = 0.03 * (high - low or 1.0)
    limits = (low - room, high + room)
    with draw(width=5.6, height=6.0) as (figure, png):
        axes = figure.add_subplot()
        axes.plot(limits, limits, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        axes.scatter(wanted_N, found_N, s=9, color=SKY, edgecolor="none", alpha=0.5)
        axes.set(xlim=limits, ylim=limits, xlabel="true value", ylabel="predicted value", aspect="equal")
        axes.grid(color=PALE)
        axes.set_axisbelow(True)
        metrics = evaluation.metrics
        title(
            figure,
            "Predicted and true values",
            f"Spearman {metrics['spearman']:.3f}, mean absolute error {metrics['mae']:.3g}, {evaluation.rows:,} rows",
        )
        return png()


def f1_png(evaluation: Measured) -> bytes:
    """F1 of each class with its 95 % interval, best first; above 40 classes the 30 lowest, which are those to work on."""
    ordered = sorted(evaluation.per_class, key=lambda scores: -scores.f1)
    chosen = len(ordered) > MOST_CLASSES
    ordered = ordered[-MOST_CLASSES_WHEN_CHOSEN:] if chosen else ordered
    f1_K = np.array([scores.f1 for scores in ordered])
    whiskers = np.abs(np.array([scores.f1_ci for scores in ordered]).reshape(-1, 2).T - f1_K)
    with draw(width=6.4, height=0.25 * len(ordered) + 1.8) as (figure, png):
        axes = figure.add_subplot()
        places = np.arange(len(ordered))
        axes.barh(places, f1_K, color=SKY)
        axes.errorbar(f1_K, places, xerr=whiskers, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        names = drawable(tuple(scores.label for scores in ordered))
        counts = [f"{name} ({scores.support:,})" for name, scores in zip(names, ordered, strict=True)]
        axes.set_yticks(places, counts, parse_math=False)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), xlabel="F1 (whiskers: 95 % interval; in brackets: how many there are)")
        axes.grid(axis="x", color=PALE)
        axes.set_axisbelow(True)
        name, value = evaluation.primary, evaluation.metrics[evaluation.primary]
        what = f"the {len(ordered)} lowest of {len(evaluation.per_class):,}" if chosen else "each class"
        title(figure, f"F1 of {what}", f"{METRICS[name][0]} {value:.3f} on {evaluation.rows:,} rows")
        return png()


def confusion_matrix_png(evaluation: SingleLabelEvaluation) -> bytes:
    """True classes against predicted classes; colour is the share of the true class, numbers are rows.

    The colour scale is a square root, so that rare confusions can be seen beside a strong diagonal.

    Above 40 classes only the 30 that take part in most errors are shown, and what was predicted as any other class is
    summed in a last column. A label that matplotlib's font cannot draw is shown as its place in the list of classes,
    from 0.
    """
    from matplotlib.colors import PowerNorm

    confusion_CC = evaluation.confusion_CC
    class_count = len(evaluation.classes)
    chosen = class_count > MOST_CLASSES
    shown_K = most_confused(confusion_CC, MOST_CLASSES_WHEN_CHOSEN) if chosen else np.arange(class_count)
    counts = confusion_CC[np.ix_(shown_K, shown_K)]
    rows_K = confusion_CC[shown_K].sum(axis=1)
    if chosen:
        counts = np.column_stack([counts, rows_K - counts.sum(axis=1)])
    percent = 100 * counts / np.maximum(rows_K, 1)[:, None]
    size = len(shown_K)
    cell = 0.6 if size <= MOST_CLASSES_WITH_PERCENT else 0.3

    with draw(width=cell * size + 3.2, height=cell * size + 2.2) as (figure, png):
        labels = drawable(evaluation.classes)
        names = [labels[index] for index in shown_K]
        axes = figure.add_subplot()
        image = axes.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100))
        _annotate(axes, counts, percent)
        upright = size <= MOST_CLASSES_WITH_PERCENT and max(map(len, names)) <= 7
        axes.set_xticks(
            range(counts.shape[1]),
            [*names, "any other class"] if chosen else names,
            rotation=0 if upright else 45,
            ha="center" if upright else "right",
            rotation_mode="anchor",
            parse_math=False,
        )
        axes.set_yticks(range(size), names, parse_math=False)
        axes.set_xticks(np.arange(counts.shape[1] + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=PALE, linewidth=0.5)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, pad=0.02, ticks=[0, 1, 5, 10, 25, 50, 75, 100])
        bar.set_label("share of the true class (%)")
        bar.outline.set_visible(False)
        what = f"the {size} most confused of {class_count:,} classes" if chosen else f"{class_count} classes"
        title(
            figure,
            f"Confusion matrix: {what}",
            f"accuracy {100 * evaluation.accuracy:.1f} % on {evaluation.rows:,} rows",
        )
        return png()


def reliability_png(evaluation: SingleLabelEvaluation) -> bytes:
    """Accuracy by confidence, with the histogram of confidences below.

    The bars of a calibrated classifier end on the diagonal; whiskers are 95 % Wilson intervals of each bin's accuracy.
    """
    bins = evaluation.reliability
    lows = np.array([bin_.low for bin_ in bins])
    widths = np.array([bin_.high - bin_.low for bin_ in bins])
    accuracies = np.array([bin_.accuracy for bin_ in bins])
    confidences = np.array([bin_.confidence for bin_ in bins])
    shares = np.array([100 * bin_.count / evaluation.rows for bin_ in bins])
    intervals = [wilson(round(bin_.accuracy * bin_.count), bin_.count) for bin_ in bins]
    whiskers = np.abs(np.array(intervals).T - accuracies)

    with draw(width=5.6, height=6.4) as (figure, png):
        upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
        upper.bar(lows, accuracies, widths, align="edge", color=SKY, edgecolor="white", label="accuracy")
        upper.bar(
            lows,
            confidences - accuracies,
            widths,
            bottom=accuracies,
            align="edge",
            facecolor="none",
            edgecolor=VERMILLION,
            hatch="////",
            label="gap to confidence",
        )
        upper.errorbar(
            confidences, accuracies, whiskers, fmt="none", ecolor=INK, elinewidth=1, capsize=2, label="95 % interval"
        )
        upper.plot([0, 1], [0, 1], color=INK, linestyle=(0, (4, 3)), linewidth=1, label="perfectly calibrated")
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy (share of rows that are right)")
        upper.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0)
        lower.bar(lows, shares, widths, align="edge", color=GREY, edgecolor="white")
        lower.set(ylim=(0, max(shares) * 1.08), xlabel="confidence (score of the predicted class)", ylabel="rows (%)")
        for axes in (upper, lower):
            axes.grid(axis="y", color=PALE)
            axes.set_axisbelow(True)
        low, high = evaluation.ece_ci
        error = f"expected calibration error {evaluation.ece:.3f} (95 % interval {low:.3f} to {high:.3f})"
        title(figure, "Reliability", f"{error}, {evaluation.rows:,} rows")
        return png()


def most_confused(confusion_CC: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.intp]:
    """The classes that take part in most errors, on either side, in the order of classes: at most ``most`` indices (K,)."""
    errors_CC = confusion_CC * ~np.eye(len(confusion_CC), dtype=np.bool_)
    errors_C = errors_CC.sum(axis=0) + errors_CC.sum(axis=1)
    return np.sort(np.argsort(-errors_C, kind="stable")[:most])


def _annotate(axes: Axes, counts: npt.NDArray[np.int64], percent: npt.NDArray[np.float64]) -> None:
    """Writes the number of rows into each cell that has some, and the percentage where there is space."""
    spacious = len(counts) <= MOST_CLASSES_WITH_PERCENT
    for row, column in np.argwhere(counts):
        count, share = counts[row, column], percent[row, column]
        axes.text(
            column,
            row,
            f"{count:,}\n{share:.0f} %" if spacious else f"{count}",
            ha="center",
            va="center",
            fontsize=8 if spacious else 6,
            color="white" if share > 30 else INK,
        )
