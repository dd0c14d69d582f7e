from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

from finetune.evaluations.evaluation import Measured
from finetune.evaluations.multi_label import evaluate_multi_label
from finetune.evaluations.regression import evaluate_regression
from finetune.evaluations.single_label import SingleLabelEvaluation, evaluate_single_label
from finetune.figures import confusion_matrix_png, f1_png, figures_of, most_confused, reliability_png, values_png
from tests.finetune.pictures import pixels

FIGURES = [confusion_matrix_png, reliability_png]
HOSTILE = ("", " ", "$x^", r"\frac", "a\nb", "<b>", "猫", "🎉", "x" * 300, "\x00", "e\u0301", "grün")


def evaluation_of(classes: tuple[str, ...] | int, *, rows: int = 200, wrong: float = 0.3) -> SingleLabelEvaluation:
    labels = classes if isinstance(classes, tuple) else tuple(f"label {i}" for i in range(classes))
    generator = np.random.default_rng(0)
    targets_N = generator.integers(len(labels), size=rows)
    guesses_N = np.where(generator.random(rows) < wrong, generator.integers(len(labels), size=rows), targets_N)
    probabilities_NC = np.full((rows, len(labels)), 0.2 / len(labels))
    probabilities_NC[np.arange(rows), guesses_N] += 0.8
    return evaluate_single_label(probabilities_NC, targets_N, classes=labels, seed=0)


@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize("classes", [1, 2, 12, 77, 1000])
def test_a_figure_has_a_sensible_size_for_any_number_of_classes(
    draw: Callable[[SingleLabelEvaluation], bytes], classes: int
) -> None:
    height, width, _ = pixels(draw(evaluation_of(classes))).shape
    assert 300 <= height <= 1500
    assert 400 <= width <= 1600


@pytest.mark.parametrize("draw", FIGURES)
def test_labels_may_be_anything(draw: Callable[[SingleLabelEvaluation], bytes]) -> None:
    # A warning of matplotlib (a missing glyph, a layout that does not fit) would be an error here.
    assert pixels(draw(evaluation_of(HOSTILE))).std() > 0


@pytest.mark.parametrize("draw", FIGURES)
def test_one_row_is_enough(draw: Callable[[SingleLabelEvaluation], bytes]) -> None:
    assert pixels(draw(evaluation_of(2, rows=1))).std() > 0


@pytest.mark.parametrize("draw", FIGURES)
def test_equal_evaluations_give_equal_bytes_whatever_the_users_style(
    draw: Callable[[SingleLabelEvaluation], bytes],
) -> None:
    first = draw(evaluation_of(3))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        assert draw(evaluation_of(3)) == first
    assert draw(evaluation_of(3, wrong=0.9)) != first


def test_a_perfect_classifier_is_dark_on_the_diagonal_and_white_elsewhere() -> None:
    image = pixels(confusion_matrix_png(evaluation_of(4, wrong=0)))
    dark = (image.sum(axis=2) < 250) & (image[:, :, 2] > image[:, :, 0] + 40)
    # The darkest blue of the colour bar lies right of the matrix: look at its left half only.
    columns = np.flatnonzero(dark[:, : image.shape[1] // 2].any(axis=0))
    tops = [int(np.flatnonzero(dark[:, column])[0]) for column in columns]
    assert len(set(tops)) >= 2
    assert tops == sorted(tops)


def test_the_most_confused_classes_are_those_in_most_errors() -> None:
    confusion_CC = np.diag([100, 100, 100, 100, 100])
    confusion_CC[4, 1] = 9
    confusion_CC[3, 4] = 2
    confusion_CC[0, 2] = 1
    assert most_confused(confusion_CC, 2).tolist() == [1, 4]
    assert most_confused(confusion_CC, 3).tolist() == [1, 3, 4]
    assert most_confused(confusion_CC, 9).tolist() == [0, 1, 2, 3, 4]


def test_neither_imports_nor_figures_touch_pyplot_or_load_heavy_libraries_early() -> None:
    script = """
import sys
import finetune.evaluations.single_label, finetune.figures, finetune.card, finetune.samples
import finetune.curves, finetune.mistakes, finetune.previous_version
print(sorted({"matplotlib", "sklearn", "torch", "yaml"} & set(sys.modules)))
import numpy as np
evaluation = finetune.evaluations.single_label.evaluate_single_label(np.eye(2), np.array([0, 1]), classes=["a", "b"], seed=0)
finetune.figures.confusion_matrix_png(evaluation)
print("matplotlib.pyplot" in sys.modules, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "False False"]


def labelled(classes: tuple[str, ...]) -> Measured:
    generator = np.random.default_rng(0)
    wanted_NL = generator.random((60, len(classes))) < 0.3
    scores_NL = 0.5 * wanted_NL + 0.5 * generator.random(wanted_NL.shape)
    return evaluate_multi_label(scores_NL, wanted_NL, threshold=0.5, classes=classes, seed=0)


@pytest.mark.parametrize("classes", [HOSTILE, ("only",), tuple(f"label {i}" for i in range(60))])
def test_bars_of_any_labels(classes: tuple[str, ...]) -> None:
    height, width, _ = pixels(f1_png(labelled(classes))).shape
    assert 200 <= height <= 1500
    assert 400 <= width <= 1600


def test_many_labels_show_those_to_work_on() -> None:
    evaluation = labelled(tuple(f"label {i}" for i in range(60)))
    lowest = sorted(evaluation.per_class, key=lambda scores: -scores.f1)[-30:]
    assert f1_png(evaluation) != f1_png(replace(evaluation, per_class=tuple(lowest)))  # it says that there are more
    assert f1_png(evaluation) == f1_png(evaluation)


@pytest.mark.parametrize("found", [np.linspace(-5, 5, 40), np.zeros(40)])
def test_values_lie_in_the_figure_whatever_they_are(found: np.ndarray) -> None:
    for wanted in (found * 1e6, np.zeros(40)):
        evaluation = evaluate_regression(found, wanted, interval=1.0, seed=0)
        assert pixels(values_png(evaluation)).std() > 0


def test_each_evaluation_has_its_figures() -> None:
    assert [figure.file for figure in figures_of(evaluation_of(3))] == [
        "report/confusion_matrix.png",
        "report/reliability.png",
    ]
    assert [figure.file for figure in figures_of(labelled(("a", "b")))] == ["report/f1.png"]
    numbers = evaluate_regression(np.arange(9.0), np.arange(9.0), interval=1.0, seed=0)
    assert [figure.file for figure in figures_of(numbers)] == ["report/values.png"]
