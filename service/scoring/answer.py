"""What came of a row, and how it is written into cells."""

from __future__ import annotations

import json
from dataclasses import dataclass

from models.errors import GraftworkError
from service.client import Entities, Features, MultiLabel, Prediction, SingleLabel, Value
from service.scoring.row import Row

PREDICTED = "predicted_"  # put before the name of a column that the input has already

COLUMNS: dict[type[Prediction] | None, tuple[str, ...]] = {
    SingleLabel: ("label", "score"),
    MultiLabel: ("labels",),
    Value: ("value", "low", "high"),
    Entities: ("entities",),
    Features: ("embedding",),
    None: (),  # where not a single row could be answered
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a row.

    Attributes:
        model: that was asked, such as ``flowers:3``.
    """

    row: Row
    outcome: Prediction | GraftworkError
    model: str

    @property
    def error(self) -> str:
        """Empty where there is none."""
        return f"{self.outcome.code}: {self.outcome.message}" if isinstance(self.outcome, GraftworkError) else ""


def cells(prediction: Prediction) -> tuple[object, ...]:
    """What goes under the columns of its kind."""
    match prediction:
        case SingleLabel():
            return prediction.label, prediction.score
        case MultiLabel():
            return ("|".join(prediction.labels),)  # as in what is learnt from
        case Value():
            return prediction.value, *prediction.interval
        case Entities():
            return (json.dumps(prediction.document["entities"], ensure_ascii=False),)
        case Features():
            return (json.dumps(prediction.document["embedding"]),)


def free_name(name: str, taken: tuple[str, ...]) -> str:
    """A name for a column that is written beside those that are taken."""
    while name in taken:
        name = PREDICTED + name
    return name
