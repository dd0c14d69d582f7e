"""What a run went through, step by step: in memory for curves and checkpoints, and as lines of JSON on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the optimiser.

    Attributes:
        step: from 1.
        epoch: how many times the rows were gone through, as a fraction.
        loss: mean over the step's rows.
        gradient_norm: before it was clipped.
        rows_per_second: since the last step.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    rows_per_second: float


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How good the model was on the validation rows after some epochs; epoch 0 is the probe that it starts from.

    Attributes:
        score: the task's primary metric.
        error: its standard error, which says what other rows of the same kind might have made of it.
        loss: mean over the validation rows, without label smoothing; of classes and labels at the temperature that suits the
            model best, for so it is served, and a probe is not as sure of itself as a model that was trained for long.
    """

    epoch: int
    score: float
    error: float
    loss: float


class History:
    """Everything that was recorded, in order.

    Args:
        file: takes a line of JSON for every record; None keeps no file.
        takes_last: whether the last epoch is taken, unless it is surely worse than the probe.
    """

    def __init__(self, file: Path | None = None, *, takes_last: bool = False) -> None:
        self._file, self._takes_last = file, takes_last
        self.steps: list[Step] = []
        self.validations: list[Validation] = []

    def add(self, record: Step | Validation) -> None:
        (self.steps if isinstance(record, Step) else self.validations).append(record)  # type: ignore[arg-type]
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(_line(record))

    @property
    def best(self) -> Validation:
        """The best validation so far: of those that no higher score is a standard error away from, that of the lowest loss.

        Scores of few rows are coarse, and chance picks the highest one: breaking their ties by the loss did better on test
        rows than the highest score did (`python -m tests.benchmarks.sweep`). The rule of one standard error is that of Breiman
        et al. 1984, "Classification and Regression Trees", section 3.4.3. What fell behind does not come back.

        Where the last epoch is taken, a score that is two standard errors below the probe's speaks against it, and nothing
        else does: on seven sets of 64 to 616 rows out of seven the test split liked the last epoch better than the probe
        (``python -m tests.benchmarks.sweep DATA STRATEGY --shots N --every``), while 10 to 77 validation rows choose by chance.
        """
        best = highest = self.validations[0]
        if self._takes_last:
            last = self.validations[-1]
            return last if last.score >= best.score - 2 * best.error else best
        for each in self.validations[1:]:
            if each.score > highest.score:
                highest = each
            enough = highest.score - highest.error
            if best.score < enough <= each.score or (each.score >= enough and each.loss < best.loss):
                best = each
        return best

    @property
    def epochs_without_gain(self) -> int:
        return self.validations[-1].epoch - self.best.epoch

    def lines(self) -> str:
        """All records as lines of JSON: validations behind the steps of their epoch."""
        records: list[Step | Validation] = sorted(
            [*self.steps, *self.validations], key=lambda record: (record.epoch, isinstance(record, Validation))
        )
        return "".join(map(_line, records))

    def to_dict(self) -> Mapping[str, Any]:
        return {
            "steps": [asdict(step) for step in self.steps],
            "validations": [asdict(validation) for validation in self.validations],
        }

    def clear(self) -> None:
        """Forgets everything; the file, too."""
        self.restore({"steps": [], "validations": []})

    def restore(self, document: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Goes back to what `to_dict` gave; the file, too."""
        self.steps = [Step(**step) for step in document["steps"]]
        self.validations = [Validation(**validation) for validation in document["validations"]]
        if self._file is not None:
            self._file.write_text(self.lines())


def _line(record: Step | Validation) -> str:
    return json.dumps({"kind": type(record).__name__.lower(), **asdict(record)}) + "\n"
