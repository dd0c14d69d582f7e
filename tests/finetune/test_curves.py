from __future__ import annotations

import io
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from finetune.curves import LearningCurves, smooth, sparkline
from finetune.training.history import History, Step, Validation
from tests.finetune.pictures import pixels


def history(
    *, epochs: int = 5, steps: int = 8, score: Callable[[int], float] = lambda epoch: 0.8 - 0.1 * abs(epoch - 3)
) -> History:
    """A run whose loss falls as the score rises; the best score is that of the third epoch."""
    found = History()
    found.add(Validation(epoch=0, score=score(0), error=0.01, loss=0.7))
    for number in range(epochs * steps):
        found.add(
            Step(
                step=number + 1,
                epoch=(number + 1) / steps,
                loss=1 / (1 + number),
                learning_rate=1e-4,
                gradient_norm=1.0,
                rows_per_second=100.0,
            )
        )
        if (number + 1) % steps == 0:
            epoch = (number + 1) // steps
            found.add(Validation(epoch=epoch, score=score(epoch), error=0.01, loss=0.7 / (1 + epoch)))
    return found


def curves(**changes: object) -> LearningCurves:
    return LearningCurves(history=history(**changes), metric="macro_f1")  # type: ignore[arg-type]


def test_the_figure_and_every_record_are_files_of_the_version() -> None:
    files = curves().files()
    assert set(files) == {"report/learning_curves.png", "report/training.jsonl"}
    records = [json.loads(line) for line in files["report/training.jsonl"].decode().splitlines()]
    assert [record["kind"] for record in records].count("step") == 40
    assert [record["epoch"] for record in records if record["kind"] == "validation"] == [0, 1, 2, 3, 4, 5]
    assert pixels(files["report/learning_curves.png"]).std() > 0


def test_equal_runs_give_equal_figures_and_others_do_not() -> None:
    assert curves().png() == curves().png()
    assert curves().png() != curves(score=lambda epoch: 0.1 * epoch).png()


def test_the_best_epoch_is_marked_where_it_is() -> None:
    def marked(best: int) -> float:
        """How far from the left, as a share of the width, the vermillion line stands."""
        image = pixels(curves(epochs=10, score=lambda epoch: float(epoch == best)).png())
        is_red = (image[:, :, 0] > 180) & (image[:, :, 1] < 130) & (image[:, :, 2] < 60)
        return float(np.argmax(is_red.sum(axis=0)) / image.shape[1])

    places = [marked(best) for best in (1, 5, 9)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.01)
    assert places[1] - places[0] > 0.2


@pytest.mark.parametrize(
    "made",
    [history(epochs=0), history(epochs=1, steps=1), history(epochs=3, steps=40_000), history(score=lambda epoch: 0.0)],
    ids=["stopped before the first step", "one step", "120,000 steps", "all scores equal"],
)
def test_any_run_can_be_drawn(made: History) -> None:
    shown = LearningCurves(history=made, metric="accuracy", stopped="no better in 3 epochs")
    assert pixels(shown.png()).std() > 0
    assert shown.lines()
    assert "no better in 3 epochs" in shown.markdown()[0]


def test_a_validation_loss_that_is_not_finite_is_left_out() -> None:
    made = history(epochs=1)
    made.add(Validation(epoch=2, score=0.1, error=0.01, loss=math.nan))
    assert pixels(LearningCurves(history=made, metric="accuracy").png()).std() > 0


def test_the_card_says_how_far_it_came() -> None:
    first, image = curves().markdown()
    assert first.startswith(
        "40 steps; on the validation rows macro F1 0.500 and loss 0.700 at first, 0.800 and 0.175 after epoch 3 of 5."
    )
    assert image == "![Learning curves](report/learning_curves.png)"


def test_a_terminal_gets_two_lines_and_a_pipe_none() -> None:
    console = Console(record=True, width=80, force_terminal=True, file=io.StringIO())
    curves().show(console)
    loss, score = console.export_text().splitlines()
    assert loss.startswith("loss      1.000 █")
    assert loss.endswith("▁ 0.025  0.117 on validation rows")
    assert score.startswith("macro F1  0.500 ▁▃▆█▆▃ 0.600  best 0.800 after epoch 3")

    piped = Console(record=True, file=io.StringIO())
    curves().show(piped)
    assert piped.export_text() == ""


def test_smoothing_takes_the_mean_of_neighbours_and_moves_nothing() -> None:
    assert smooth([3.0]).tolist() == [3.0]
    values = np.where(np.arange(200) < 100, 1.0, 0.0) + np.tile([0.5, -0.5], 100)
    smoothed = smooth(values.tolist())
    assert np.abs(smoothed[5:90] - 1).max() < 0.06
    assert np.abs(smoothed[110:195]).max() < 0.06
    assert 96 <= int(np.argmax(smoothed < 0.5)) <= 104


@given(st.lists(st.floats(-1e6, 1e6), max_size=200))
def test_a_sparkline_is_short_and_shows_lowest_and_highest(values: list[float]) -> None:
    line = sparkline(values)
    assert len(line) == min(24, len(values))
    if 1 < len(values) <= 24 and max(values) > min(values):
        assert line[int(np.argmax(values))] == "█"
        assert line[int(np.argmin(values))] == "▁"
