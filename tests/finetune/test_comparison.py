"""What two versions say of the same rows: how far apart they are, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from finetune.comparison import Comparison, compare
from finetune.example import Label, text_example
from finetune.intervals import Interval
from finetune.predictions import Predictions
from models.task import Task
from tests.finetune.markdown import html_of
from tests.tiny_models import LETTERS

OLD = ["vowel", "digit", "mark"] * 20


def says(labels: Sequence[str]) -> Predictions:
    """A model that answers so."""
    scores_NC = np.eye(4)[[LETTERS.index(label) for label in labels]]
    return Predictions(task=Task.SINGLE_LABEL, classes=LETTERS, scores=list(scores_NC))


def others(labels: Sequence[str], rows: range) -> list[str]:
    """The labels, but in some rows the next one."""
    return [LETTERS[(LETTERS.index(one) + 1) % 4] if row in rows else one for row, one in enumerate(labels)]


def compared(truths: Sequence[Label], new: Sequence[str], old: Sequence[str], seed: int = 0) -> Comparison:
    examples = [text_example(f"text {row}", label=label, source=str(row)) for row, label in enumerate(truths)]
    return compare(examples, says(new), says(old), previous="letters:1", seed=seed)


def test_a_better_version_is_better_by_what_it_wins() -> None:
    truths = others(OLD, range(30))
    result = compared(truths, others(truths, range(10, 13)), OLD)
    assert (result.previous, result.metric, result.rows) == ("letters:1", "accuracy", 60)
    assert (result.score, result.previous_score) == (57 / 60, 30 / 60)
    assert result.difference == pytest.approx(27 / 60)
    assert 0.2 < result.interval.low < 0.45 < result.interval.high < 0.65
    assert result.chance_better == 1.0
    assert result.verdict == "better"
    assert "better with a chance of over 99 %: better" in result.sentence

    mirrored = compared(OLD, truths, OLD)
    assert mirrored.verdict == "worse"
    assert mirrored.chance_better == 0.0


def test_one_that_says_the_same_is_as_good() -> None:
    result = compared(others(OLD, range(7)), OLD, OLD)
    assert (result.difference, result.interval, result.chance_better) == (0.0, Interval(0.0, 0.0), 0.5)
    assert result.differing == 0
    assert result.sentence == "letters:1 does as well on each of the 60 test rows: no clear difference"


def test_pairs_make_it_surer_than_two_intervals_do() -> None:
    """Both are wrong in the same 27 rows; what counts are the three in which only the old one is."""
    truths = others(OLD, range(30))
    result = compared(truths, others(truths, range(27)), OLD)
    assert result.difference == pytest.approx(3 / 60)
    assert result.interval.low >= 0
    assert result.interval.high < 0.13  # unpaired: 0.05 more or less 0.18
    assert result.chance_better > 0.9
    assert (result.differing, result.verdict) == (3, "no clear difference")


@pytest.mark.parametrize(("rows", "verdict"), [(5, "no clear difference"), (6, "better")])
def test_five_rows_are_too_few_to_be_sure(rows: int, verdict: str) -> None:
    truths = others(OLD, range(rows))
    result = compared(truths, truths, OLD)
    assert result.interval.low > 0
    assert (result.differing, result.verdict) == (rows, verdict)


def test_of_equals_few_are_called_better_or_worse() -> None:
    """Two models that are each right with a chance of 0.8, on 100 rows, 200 times: at a level of 95 %, about ten are."""
    generator = np.random.default_rng(0)
    verdicts = []
    for _ in range(200):
        right_2N = generator.random((2, 100)) < 0.8
        new, old = (["vowel" if right else "mark" for right in right_N] for right_N in right_2N)
        verdicts.append(compared(["vowel"] * 100, new, old).verdict)
    assert 3 <= 200 - verdicts.count("no clear difference") <= 20


def test_equal_seeds_give_equal_results() -> None:
    given = (OLD, others(OLD, range(8)), others(OLD, range(5, 20)))
    assert compared(*given) == compared(*given)
    assert compared(*given) != compared(*given, seed=1)


def test_it_is_plain_json_and_blocks_of_markdown() -> None:
    comparison = Comparison(
        previous="my_flowers_:3",
        metric="entity_f1",
        rows=1234,
        differing=70,
        score=0.5,
        previous_score=0.45,
        interval=Interval(-0.01, 0.11),
        chance_better=0.94,
    )
    document = json.loads(json.dumps(comparison.to_dict()))
    assert document["difference"] == pytest.approx(0.05)
    assert document["difference_ci"] == [-0.01, 0.11]
    assert document["verdict"] == "no clear difference"
    assert document["differing"] == 70
    shown = html_of("\n\n".join(comparison.markdown()))
    assert (
        "Entity F1 0.500, my_flowers_:3 has 0.450 on the same 1,234 rows: +0.050 (95 %: -0.010 to +0.110), better with a "
        "chance of 94 %: no clear difference." in shown
    )
