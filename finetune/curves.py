"""Learning curves: how a training run went, as a figure, as two lines for a terminal, and as a section of the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finetune.canvas import INK, PALE, SKY, VERMILLION, draw, title
from finetune.markdown import escape
from finetune.training.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

FIGURE = "report/learning_curves.png"
LOG = "report/training.jsonl"

_WINDOWS = 20  # of smoothing, in all steps
_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 24

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LearningCurves:
    """A run's records, and how they are shown.

    Attributes:
        history: with one validation at least.
        metric: what the scores of validations are, such as ``accuracy``.
        stopped: why the run ended before its last epoch; None where it did not.
        refitted_on: from how many examples it learnt again afterwards, those of validation among them; None where it did not.
    """

    history: History
    metric: str
    stopped: str | None = None
    refitted_on: int | None = None

    def files(self) -> Mapping[str, bytes]:
        """The figure, and every record as a line of JSON, by their paths in a version."""
        return {FIGURE: self.png(), LOG: self.history.lines().encode()}

    def markdown(self) -> list[str]:
        """Blocks for the model card."""
        ended = "" if self.stopped is None else f" It ended early: {escape(self.stopped)}."
        if self.refitted_on is not None:
            ended += f" What is published learnt again from all {self.refitted_on:,} examples, in the same way."
        return [
            f"{len(self.history.steps):,} steps; on the validation rows {escape(self._summary())}.{ended} "
            f"Every record of the run: `{LOG}`.",
            f"![Learning curves]({FIGURE})",
        ]

    def show(self, console: Console) -> None:
        """Draws the curves in two lines; nothing where there is no terminal, or one without block characters."""
        if console.is_terminal and not console.options.ascii_only:
            for line in self.lines():
                console.print(line, markup=False, highlight=False, no_wrap=True, overflow="ellipsis")

    def lines(self) -> list[str]:
        """Loss of the steps and score of the validations, each from its lowest value to its highest."""
        width, best, last = max(len(self._score_name), 4), self.history.best, self.history.validations[-1]
        score = [validation.score for validation in self.history.validations]
        lines = [
            f"{self._score_name:<{width}}  {score[0]:.3f} {sparkline(score)} {score[-1]:.3f}"
            f"  best {best.score:.3f} {_epoch(best.epoch)}"
        ]
        if self.history.steps:
            loss = smooth([step.loss for step in self.history.steps])
            lines.insert(
                0,
                f"{'loss':<{width}}  {loss[0]:.3f} {sparkline(loss)} {loss[-1]:.3f}  {last.loss:.3f} on validation rows",
            )
        return lines

    def png(self) -> bytes:
        """Loss, score and learning rate over epochs; equal histories give equal bytes."""
        steps, validations = self.history.steps, self.history.validations
        epochs = [validation.epoch for validation in validations]
        with draw(width=6.4, height=7.2) as (figure, png):
            loss, score, rate = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 3, 1.2]})
            self._draw_loss(loss)
            score.plot(epochs, [each.score for each in validations], "o-", color=INK, markersize=4, linewidth=1)
            score.set_ylabel(f"{self._score_name}\non validation rows")
            rate.plot([step.epoch for step in steps], [step.learning_rate for step in steps], color=INK, linewidth=1)
            rate.set_ylabel("learning rate")
            rate.set_ylim(bottom=0)
            rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
            rate.set_xlabel("epoch (0: the probe that it starts from)")
            rate.xaxis.get_major_locator().set_params(integer=True)
            best = self.history.best
            for axes in (loss, score, rate):
                axes.axvline(best.epoch, color=VERMILLION, linewidth=1, linestyle=(0, (4, 3)))
                axes.grid(color=PALE)
                axes.set_axisbelow(True)
            score.plot(best.epoch, best.score, "o", color=VERMILLION, label=f"best: {best.score:.3f}")
            for axes in (loss, score):
                axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0)
            title(figure, "Learning curves", f"{self._summary()}; {len(steps):,} steps")
            return png()

    def _draw_loss(self, axes: Axes) -> None:
        steps, validations = self.history.steps, self.history.validations
        losses = [step.loss for step in steps]
        shown = [validation.loss for validation in validations]
        if steps:
            epochs, smoothed = [step.epoch for step in steps], smooth(losses)
            axes.plot(epochs, losses, color=SKY, linewidth=0.6, alpha=0.6, label="steps")
            axes.plot(epochs, smoothed, color=SKY, linewidth=1.8, label="steps, smoothed")
            shown += smoothed.tolist()
        axes.plot(
            [validation.epoch for validation in validations],
            [validation.loss for validation in validations],
            "o-",
            color=INK,
            markersize=4,
            linewidth=1,
            label="validation rows, calibrated",
        )
        highest = max(filter(np.isfinite, shown), default=1.0)
        axes.set_ylim(0, 1.1 * highest or 1.0)  # single steps may go beyond
        axes.set_ylabel("loss")

    @property
    def _score_name(self) -> str:
        return self.metric.replace("_", " ").replace("f1", "F1")

    def _summary(self) -> str:
        """The score before the first step, and in the best epoch."""
        best, first, last = self.history.best, self.history.validations[0], self.history.validations[-1]
        if not best.epoch:
            return f"{self._score_name} {first.score:.3f} at first, which none of {last.epoch} epochs beat"
        return (
            f"{self._score_name} {first.score:.3f} and loss {first.loss:.3f} at first, {best.score:.3f} and {best.loss:.3f} "
            f"after epoch {best.epoch} of {last.epoch}"
        )


def smooth(values: Sequence[float]) -> Floats:
    """The mean of each value and its neighbours, as many as a twentieth of all; at the ends of those that there are."""
    window = np.ones(max(1, len(values) // _WINDOWS))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def sparkline(values: Sequence[float] | Floats) -> str:
    """Values as a row of bars, the lowest one an eighth high; above 24 values, means of neighbours."""
    if not len(values):
        return ""
    parts = np.array_split(np.asarray(values, dtype=np.float64), min(_MOST_BARS, len(values)))
    means = np.array([part.mean() for part in parts])
    finite = means[np.isfinite(means)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    span = high - low or 1.0
    return "".join(_BARS[round((mean - low) / span * (len(_BARS) - 1))] if np.isfinite(mean) else " " for mean in means)


def _epoch(epoch: int) -> str:
    return f"after epoch {epoch}" if epoch else "before the first step"
