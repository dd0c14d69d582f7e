from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from finetune.training.history import History, Step, Validation


def step(number: int) -> Step:
    return Step(
        step=number, epoch=number / 2, loss=1 / number, learning_rate=0.1, gradient_norm=2.0, rows_per_second=9.0
    )


def validation(epoch: int, score: float, loss: float = 0.5) -> Validation:
    return Validation(epoch=epoch, score=score, error=0.05, loss=loss)


@pytest.mark.parametrize(
    ("later", "best"),
    [
        ([(0.6, 0.4)], 1),
        ([(0.6, 0.9)], 1),  # a score that is clearly higher
        ([(0.53, 0.9)], 0),  # one that may be chance
        ([(0.47, 0.4)], 1),  # the same, and the loss says more
        ([(0.4, 0.1)], 0),  # a lower loss does not make up for a score that is clearly lower
        ([(0.9, 0.4), (0.9, 0.3), (0.9, 0.3)], 2),  # the first of equals
        ([(0.47, 0.4), (0.54, 0.6)], 2),  # a standard error is counted from the highest score, not from the best model
        ([(0.47, 0.4), (0.43, 0.1)], 1),
        ([(0.6, math.nan)], 1),
        ([(math.nan, 0.1)], 0),
    ],
)
def test_the_best_has_the_lowest_loss_of_those_within_a_standard_error_of_the_highest_score(
    later: list[tuple[float, float]], best: int
) -> None:
    history = History()
    for epoch, (score, loss) in enumerate([(0.5, 0.5), *later]):
        history.add(validation(epoch, score, loss))
    assert history.best.epoch == best
    assert history.epochs_without_gain == len(later) - best


@pytest.mark.parametrize(
    ("later", "best"),
    [
        ([(0.9, 0.1), (0.41, 0.9)], 2),  # whatever was in between
        ([(0.9, 0.1), (0.39, 0.1)], 0),
        ([(0.9, 0.1), (math.nan, 0.1)], 0),
        ([], 0),
    ],
)
def test_where_the_last_epoch_is_taken_only_a_clearly_lower_score_speaks_against_it(
    later: list[tuple[float, float]], best: int
) -> None:
    history = History(takes_last=True)
    for epoch, (score, loss) in enumerate([(0.5, 0.5), *later]):
        history.add(validation(epoch, score, loss))
    assert history.best.epoch == best


def test_it_is_a_line_of_json_for_every_record_and_can_go_back(tmp_path: Path) -> None:
    history = History(tmp_path / "log.jsonl")
    for each in (validation(0, 0.5), step(1), step(2), validation(1, 0.7)):
        history.add(each)
    kept = json.loads(json.dumps(history.to_dict()))
    lines = (tmp_path / "log.jsonl").read_text()
    assert [json.loads(line)["kind"] for line in lines.splitlines()] == ["validation", "step", "step", "validation"]
    assert history.lines() == lines

    history.add(step(3))  # lost with the process, and with it what it wrote
    again = History(tmp_path / "log.jsonl")
    again.restore(kept)
    assert again.best == validation(1, 0.7)
    assert (tmp_path / "log.jsonl").read_text() == lines
