"""Which heads may serve; how they are fitted is seen in `tests.finetune.test_job`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from finetune.fit import Fit


def fit(accuracy: float) -> Any:
    training = SimpleNamespace(validation_score=accuracy, validation_metric="accuracy", validated_on="cross-validation")
    return SimpleNamespace(training=training)


@pytest.mark.parametrize(
    ("accuracy", "may_serve"), [(0.95, True), (0.90, True), (0.8951, True), (0.8949, False), (0.1, False)]
)
def test_half_a_point_of_cross_validated_accuracy_may_be_lost(accuracy: float, may_serve: bool) -> None:
    refusal = Fit.refusal(fit(accuracy), fit(0.90))
    assert (refusal is None) is may_serve
    if refusal is not None:
        assert f"{accuracy:.3f}" in refusal
        assert "0.900" in refusal


def test_exactly_half_a_point_is_half_a_point() -> None:
    assert 100 * (185 / 200 - 184 / 200) > 0.5  # in floating-point numbers
    assert Fit.refusal(fit(184 / 200), fit(185 / 200)) is None
