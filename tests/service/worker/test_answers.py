from __future__ import annotations

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from models.batch import Row, TextRow, Words
from models.manifest import Calibration
from models.task import Task
from service.worker.answers import Entities, Features, MultiLabel, SingleLabel, Value, answers_for

ROW = TextRow(ids=[1], segments=[0])


def scores(*values: float) -> NDArray[np.float64]:
    return np.array(values)


def test_the_best_label_and_the_best_scores() -> None:
    answers = SingleLabel(["a", "b", "c"])
    assert answers([scores(0.2, 0.5, 0.3)], ROW, 2) == {"label": "b", "score": 0.5, "scores": {"b": 0.5, "c": 0.3}}
    assert list(answers([scores(0.2, 0.5, 0.3)], ROW, None)["scores"]) == ["b", "c", "a"]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("found", "top_k", "labels", "listed"),
    [
        ((0.6, 0.9, 0.1), None, ["b", "a"], ["b", "a", "c"]),
        ((0.6, 0.9, 0.1), 1, ["b", "a"], ["b"]),  # labels that hold are not cut
        ((0.6, 0.9, 0.1), 9, ["b", "a"], ["b", "a", "c"]),
        ((0.5, 0.5, 0.4), 2, ["a", "b"], ["a", "b"]),  # at the threshold; of equal ones the first comes first
        ((0.1, 0.2, 0.3), 1, [], ["c"]),
        ((0.7, 0.8, 0.9), None, ["c", "b", "a"], ["c", "b", "a"]),
    ],
)
def test_every_label_that_holds(
    found: tuple[float, ...], top_k: int | None, labels: list[str], listed: list[str]
) -> None:
    answer = MultiLabel(["a", "b", "c"], 0.5)([scores(*found)], ROW, top_k)
    assert answer == {"labels": labels, "scores": {label: found["abc".index(label)] for label in listed}}
    assert list(answer["scores"]) == listed  # type: ignore[call-overload]


def test_a_value_and_its_interval() -> None:
    assert Value(0.5)([scores(-3.25)], ROW, 1) == {"value": -3.25, "interval": [-3.75, -2.75]}
    assert Value(0.0)([scores(1e9)], ROW, None) == {"value": 1e9, "interval": [1e9, 1e9]}


TAGS = ("B-city", "I-city", "B-name", "O")


def tagged(*tags: tuple[str, float]) -> list[NDArray[np.float64]]:
    """Scores of words, each for its tag."""
    return [scores(*(score if each == tag else (1 - score) / 3 for each in TAGS)) for tag, score in tags]


def row_of(text: str, tokens: list[int]) -> Row:
    spans, start = [], 0
    for word in text.split():
        start = text.index(word, start)
        spans.append((start, start + len(word)))
        start += len(word)
    return TextRow(ids=[], segments=[], words=Words(text=text, spans=spans, tokens=tokens))


def test_entities_are_cut_out_of_the_text_as_it_was_sent() -> None:
    row = row_of(" Anna  😀 in\tNew\n York", [1, 2, 3, 4, 5])
    words = tagged(("B-name", 0.8), ("O", 0.9), ("O", 0.9), ("B-city", 0.9), ("I-city", 0.7))
    assert Entities(TAGS)(words, row, None) == {
        "entities": [
            {"label": "name", "text": "Anna", "start": 1, "end": 5, "score": 0.8},
            {"label": "city", "text": "New\n York", "start": 12, "end": 21, "score": 0.7},
        ]
    }


def test_a_word_without_a_token_belongs_to_nothing() -> None:
    row = row_of("New \x01 York", [1, -1, 2])
    words = tagged(("B-city", 0.9), ("I-city", 0.8))
    assert [each["text"] for each in Entities(TAGS)(words, row, None)["entities"]] == ["New", "York"]  # type: ignore[attr-defined]
    assert Entities(TAGS)([], row_of("\x01", [-1]), None) == {"entities": []}


def test_each_task_has_its_own() -> None:
    calibrations = {
        Task.SINGLE_LABEL: Calibration(),
        Task.MULTI_LABEL: Calibration(threshold=0.5),
        Task.REGRESSION: Calibration(interval=0.5),
        Task.TOKEN_CLASSIFICATION: Calibration(),
        Task.EMBEDDING: Calibration(),
    }
    found = [type(answers_for(task, TAGS, calibration)) for task, calibration in calibrations.items()]
    assert found == [SingleLabel, MultiLabel, Value, Entities, Features]
    assert {*Task} == {*calibrations}


def test_features_are_told_in_the_digits_of_their_32_bits() -> None:
    features_D = np.array([0.1, -1 / 3, 1e-30, 3e38], dtype=np.float32)
    told = orjson.dumps(Features()([features_D], ROW, 1))
    assert told.startswith(b'{"embedding":[0.1,-0.33333334,')
    assert np.array_equal(np.array(orjson.loads(told)["embedding"], dtype=np.float32), features_D)
