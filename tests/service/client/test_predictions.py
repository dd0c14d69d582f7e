from __future__ import annotations

from typing import Any

import pytest

from service.client import Entities, Entity, Features, MultiLabel, Predictions, SingleLabel, Value
from service.client.predictions import Prediction, parse_prediction

CITY = {"label": "city", "text": "New York", "start": 9, "end": 17, "score": 0.97}
CASES: list[tuple[dict[str, Any], Prediction]] = [
    (
        {"label": "food", "score": 0.9, "scores": {"food": 0.9, "war": 0.1}},
        SingleLabel(label="food", score=0.9, scores={"food": 0.9, "war": 0.1}, document={}),
    ),
    (
        {"labels": ["food", "war"], "scores": {"food": 0.9}, "truncated": True},
        MultiLabel(labels=("food", "war"), scores={"food": 0.9}, truncated=True, document={}),
    ),
    ({"value": 3.5, "interval": [2.75, 4.25]}, Value(value=3.5, interval=(2.75, 4.25), document={})),
    ({"embedding": [0.5, -1.25]}, Features(embedding=(0.5, -1.25), document={})),
    (
        {"entities": [CITY]},
        Entities(entities=(Entity(label="city", text="New York", start=9, end=17, score=0.97),), document={}),
    ),
]


@pytest.mark.parametrize(("document", "prediction"), CASES)
def test_a_prediction_is_read_by_its_task_and_keeps_what_was_sent(
    document: dict[str, Any], prediction: Prediction
) -> None:
    found = parse_prediction(document)
    assert found == prediction
    whole = Predictions(model="m", version=2, request_id="r", predictions=(found,))
    assert whole.to_dict() == {"predictions": [document], "model": "m", "version": 2, "request_id": "r"}


@pytest.mark.parametrize("document", [{}, {"label": "a"}, {"value": 1.0, "interval": [1.0]}, {"entities": [{}]}])
def test_what_is_none_is_an_error(document: dict[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError)):
        parse_prediction(document)
