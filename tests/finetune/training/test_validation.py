from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from finetune.training.grafted import Grafted
from finetune.training.rows import TrainingRows
from finetune.training.validation import Validator
from models.features import FeatureKind
from models.task import Task
from tests.finetune.training.runs import run_of


@pytest.fixture
def judged(tiny_text: str, tmp_path: Path) -> tuple[Validator, Grafted]:
    run = run_of(tiny_text, tmp_path)
    rows = TrainingRows(
        run.learn.examples, run.preprocessor, run.stored.directory, augment="none", seed=0, kind=FeatureKind.POOLED
    )
    validator = Validator(rows, run.learn, task=Task.SINGLE_LABEL, labels=run.labels, device=torch.device("cpu"))
    return validator, Grafted(run.stored.load(), run.head, FeatureKind.POOLED)


def test_how_sure_a_model_is_of_itself_changes_nothing(judged: tuple[Validator, Grafted]) -> None:
    """It will be served at the temperature that suits it best."""
    validator, grafted = judged
    with torch.no_grad():
        sign = 1 if validator.judge(grafted, 0).score > 0.5 else -1  # of a head that knows something
        grafted.head.weight.mul_(sign / 20)
        grafted.head.bias.mul_(sign / 20)
    before = validator.judge(grafted, 0)
    with torch.no_grad():
        grafted.head.weight.mul_(7)
        grafted.head.bias.mul_(7)
    after = validator.judge(grafted, 1)
    assert before.loss < math.log(2) - 0.001
    assert after.loss == pytest.approx(before.loss, rel=1e-5)
    assert (after.score, after.error, after.epoch) == (before.score, before.error, 1)
    assert not grafted.training


def test_the_error_of_a_score_is_that_of_a_share(judged: tuple[Validator, Grafted]) -> None:
    validator, grafted = judged
    found, rows = validator.judge(grafted, 0), 40
    assert 0 < found.score < 1
    assert found.error == pytest.approx(math.sqrt(found.score * (1 - found.score) / rows), rel=0.2)


def test_what_is_not_finite_is_no_better_than_anything(judged: tuple[Validator, Grafted]) -> None:
    validator, grafted = judged
    with torch.no_grad():
        grafted.head.bias.fill_(math.nan)
    assert math.isnan(validator.judge(grafted, 0).loss)
