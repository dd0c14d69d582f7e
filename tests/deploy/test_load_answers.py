"""Which answers of one item count as the same."""

from __future__ import annotations

import base64
import json
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.deploy.generator import FOLDER

Judge = Callable[..., bool]


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Judge]:
    """``judge(first, then)``: whether an item may be answered with both."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from answers import Answers  # type: ignore[import-not-found]
    from items import Item  # type: ignore[import-not-found]

    def same(first: Any, then: Any, **options: Any) -> bool:
        answers = Answers([Item(name="one", path="/", content_type="", body=b"")], **options)
        assert answers.complaint(0, json.dumps(first).encode()) is None
        return answers.complaint(0, json.dumps(then).encode()) is None

    yield same
    for name in ("answers", "items"):
        del sys.modules[name]


def answer(scores: dict[str, float], top: int | None = None, version: int = 1) -> dict[str, Any]:
    ranked = dict(sorted(scores.items(), key=lambda each: -each[1])[:top])
    label = next(iter(ranked))
    return {"predictions": [{"label": label, "score": ranked[label], "scores": ranked}], "version": version}


CLEAR, TIE = {"a": 0.7, "b": 0.2, "c": 0.1}, {"a": 0.452, "b": 0.448, "c": 0.1}
OTHER_TIE = {"a": 0.448, "b": 0.452, "c": 0.1}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (answer(CLEAR), answer({"a": 0.705, "b": 0.195, "c": 0.1})),
        (answer(CLEAR), {**answer(CLEAR), "request_id": "another"}),
        (answer(CLEAR), answer({"a": 0.1, "b": 0.2, "c": 0.7}, version=2)),
        (answer(TIE), answer(OTHER_TIE)),
        (answer(TIE, top=1), answer(OTHER_TIE, top=1)),
        (answer(TIE, top=2), answer(OTHER_TIE, top=2)),
        ({"value": 1000.0}, {"value": 1001.0}),
        ([[0.1, 0.2]], [[0.1001, 0.2]]),
    ],
)
def test_the_same_answer(judge: Judge, first: Any, then: Any) -> None:
    assert judge(first, then)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (answer(CLEAR), answer({"a": 0.6, "b": 0.3, "c": 0.1})),
        (answer(CLEAR), answer({"a": 0.2, "b": 0.7, "c": 0.1})),
        (answer(CLEAR, top=1), answer({"a": 0.2, "b": 0.7, "c": 0.1}, top=1)),  # as likely: another label, and no tie
        (answer(CLEAR), answer({"a": 0.7, "b": 0.2, "d": 0.1})),
        (answer(CLEAR), {"predictions": [], "version": 1}),
        (answer(CLEAR), {"version": 1}),
        ({"version": 1}, answer(CLEAR)),
        (answer(CLEAR), {}),
        (answer(CLEAR), {"predictions": [{"label": "b", "score": 0.7, "scores": CLEAR}], "version": 1}),
        ({"value": 1000.0}, {"value": 1100.0}),
        ({"holds": True}, {"holds": False}),
        ([[0.1, 0.2]], [[0.1, 0.2, 0.3]]),
        ({"entities": ["x"]}, {"entities": ["y"]}),
    ],
)
def test_another_answer(judge: Judge, first: Any, then: Any) -> None:
    assert not judge(first, then)


def test_vectors_in_base64(judge: Judge) -> None:
    def embedding(*values: float) -> dict[str, str]:
        return {"embedding": base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()}

    assert judge(embedding(0.1, 0.2), embedding(0.101, 0.2))
    assert not judge(embedding(0.1, 0.2), embedding(0.2, 0.1))
    assert not judge(embedding(0.1, 0.2), embedding(0.1, 0.2, 0.3))
    text = {"label": "sixteen letters."}
    assert not judge(text, {"label": "others they are."})  # a label is no vector, though its bytes might be one


def test_a_version_keeps_its_answers_while_another_one_comes(judge: Judge) -> None:
    first, second = answer(CLEAR), answer({"a": 0.1, "b": 0.2, "c": 0.7}, version=2)
    assert judge(first, second)
    assert not judge(second, {**first, "version": 2})
