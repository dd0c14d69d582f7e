from __future__ import annotations

import json
from pathlib import Path

from finetune.training.history import History, Step, Validation


def step(number: int) -> Step:
    return Step(
        step=number, epoch=number / 2, loss=1 / number, learning_rate=0.1, gradient_norm=2.0, rows_per_second=9.0
    )


def validation(epoch: int, score: float, loss: float = 0.5) -> Validation:
    return Validation(epoch=epoch, score=score, loss=loss)


def test_the_best_is_the_first_of_the_highest_score_then_of_the_lowest_loss() -> None:
    history = History()
    for each in (validation(0, 0.5), validation(1, 0.9, 0.4), validation(2, 0.9, 0.3), validation(3, 0.9, 0.3)):
        history.add(each)
    assert history.best.epoch == 2
    assert history.epochs_without_gain == 1


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
