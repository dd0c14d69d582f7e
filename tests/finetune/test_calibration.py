from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss

from finetune.calibration import HIGHEST, LOWEST, fit_temperature, log_loss


def softmax(logits_NC: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    power_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    return np.asarray(power_NC / power_NC.sum(axis=1, keepdims=True))


def drawn(rows: int, classes: int, seed: int = 0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Logits, and targets that are drawn with exactly the chances that the logits state."""
    random = np.random.default_rng(seed)
    logits_NC = random.normal(scale=2, size=(rows, classes))
    cumulative_NC = softmax(logits_NC).cumsum(axis=1)
    targets_N = (random.random(rows)[:, None] > cumulative_NC).sum(axis=1).clip(max=classes - 1)
    return logits_NC, targets_N


@pytest.mark.parametrize("exaggeration", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("classes", [2, 7])
def test_the_temperature_undoes_an_exaggeration(exaggeration: float, classes: int) -> None:
    logits_NC, targets_N = drawn(5000, classes)
    assert fit_temperature(logits_NC * exaggeration, targets_N) == pytest.approx(exaggeration, rel=0.08)


def test_no_other_temperature_has_a_lower_loss() -> None:
    logits_NC, targets_N = drawn(3000, 4)
    best = fit_temperature(logits_NC, targets_N)
    losses = [log_loss(logits_NC, targets_N, best * factor) for factor in (0.5, 0.95, 1.0, 1.05, 2.0)]
    assert losses.index(min(losses)) == 2


@given(st.integers(1, 500), st.floats(0.5, 20))
def test_rows_without_an_error_are_believed_as_far_as_their_number_goes(rows: int, margin: float) -> None:
    targets_N = np.arange(rows) % 2
    logits_NC = np.where(np.arange(2) == targets_N[:, None], margin, 0.0)
    temperature = fit_temperature(logits_NC, targets_N)
    assert softmax(logits_NC / temperature).max() == pytest.approx((rows + 1) / (rows + 2), abs=1e-6)


def test_logits_that_say_nothing_get_the_highest_temperature() -> None:
    targets_N = np.arange(100) % 2
    logits_NC = np.where(np.arange(2) == targets_N[:, None], -1.0, 1.0)  # always wrong
    assert fit_temperature(logits_NC, targets_N) == pytest.approx(HIGHEST)


def test_the_range_ends_at_the_lowest_temperature() -> None:
    targets_N = np.arange(100) % 2
    logits_NC = np.where(np.arange(2) == targets_N[:, None], 1e-6, 0.0)  # right, with no confidence at all
    assert fit_temperature(logits_NC, targets_N) == pytest.approx(LOWEST)


def test_a_constant_in_a_row_of_logits_changes_nothing_and_nothing_overflows() -> None:
    logits_NC, targets_N = drawn(200, 3)
    shift_N1 = np.linspace(-1e6, 1e6, 200)[:, None]
    assert fit_temperature(logits_NC + shift_N1, targets_N) == pytest.approx(fit_temperature(logits_NC, targets_N))
    assert log_loss(logits_NC + shift_N1, targets_N, 0.01) == pytest.approx(log_loss(logits_NC, targets_N, 0.01))


def test_the_log_loss_is_the_usual_one() -> None:
    logits_NC, targets_N = drawn(200, 3)
    usual = sklearn_log_loss(targets_N, softmax(logits_NC / 1.7), labels=[0, 1, 2])
    assert log_loss(logits_NC, targets_N, 1.7) == pytest.approx(usual)
