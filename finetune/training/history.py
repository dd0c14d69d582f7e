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
        loss: mean over the validation rows, without label smoothing.
    """

    epoch: int
    score: float
    loss: float

    def beats(self, other: Validation) -> bool:
        """Whether it is the better model: by its score, and where that ties, as coarse ones do, by its loss."""
        return (self.score, -self.loss) > (other.score, -other.loss)


class History:
    """Everything that was recorded, in order.

    Args:
        file: takes a line of JSON for every record; None keeps no file.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self.steps: list[Step] = []
        self.validations: list[Validation] = []

    def add(self, record: Step | Validation) -> None:
        (self.steps if isinstance(record, Step) else self.validations).append(record)  # type: ignore[arg-type]
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(_line(record))

    @property
    def best(self) -> Validation:
        """The best validation so far; the earlier one of equals."""
        best, *others = self.validations
        for other in others:
            best = other if other.beats(best) else best
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
