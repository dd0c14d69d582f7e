from __future__ import annotations

import json

import numpy as np
import pytest

from finetune.evaluations.tokens import evaluate_tokens

CLASSES = ("B-city", "B-name", "I-city", "I-name", "O")


def test_an_entity_is_right_only_as_a_whole_and_of_its_type() -> None:
    wanted = [["B-city", "I-city", "O"], ["B-name", "O", "B-city"], ["O", "O", "O"]]
    found = [["B-city", "O", "O"], ["B-city", "O", "B-city"], ["O", "O", "B-name"]]
    scores = evaluate_tokens(found, wanted, classes=CLASSES, seed=0)
    assert scores.metrics["entity_precision"] == 1 / 4
    assert scores.metrics["entity_recall"] == 1 / 3
    assert scores.metrics["entity_f1"] == pytest.approx(2 / 7)
    assert scores.metrics["token_accuracy"] == 6 / 9
    assert [(one.label, one.support) for one in scores.per_class] == [("city", 2), ("name", 1)]
    assert [one.f1 for one in scores.per_class] == [2 / 5, 0.0]


def drawn(sentences: int, seed: int) -> list[list[str]]:
    random = np.random.default_rng(seed)
    return [random.choice(CLASSES, p=(0.1, 0.05, 0.05, 0, 0.8), size=8).tolist() for _ in range(sentences)]


def test_what_is_right_is_perfect_and_what_is_drawn_is_chance() -> None:
    wanted = drawn(200, 0)
    perfect = evaluate_tokens(wanted, wanted, classes=CLASSES, seed=0)
    assert set(perfect.metrics.values()) == {1.0}
    assert perfect.beats_chance
    lucky = evaluate_tokens(drawn(200, 1), wanted, classes=CLASSES, seed=0)
    assert not lucky.beats_chance
    assert lucky.metrics["entity_f1"] == pytest.approx(lucky.chance, abs=0.05)
    for name, value in lucky.metrics.items():
        assert lucky.intervals[name].low <= value <= lucky.intervals[name].high


def test_to_find_nothing_is_no_skill_however_many_words_are_right() -> None:
    wanted = [["O"] * 50 for _ in range(20)]
    wanted[3][7] = "B-name"
    scores = evaluate_tokens([["O"] * 50 for _ in range(20)], wanted, classes=CLASSES, seed=0)
    assert scores.metrics["token_accuracy"] == 0.999
    assert scores.metrics["entity_f1"] == 0
    assert not scores.beats_chance
    json.dumps(scores.to_dict(), allow_nan=False)


def test_a_word_without_an_answer_is_refused() -> None:
    for found, wanted in (([], []), ([["O"]], [["O", "O"]])):
        with pytest.raises(ValueError, match="each of its words"):
            evaluate_tokens(found, wanted, classes=CLASSES, seed=0)
