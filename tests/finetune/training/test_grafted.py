from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune.strategy import Strategy
from finetune.training.grafted import Grafted
from finetune.training.rows import TrainingRows
from models.features import FeatureKind
from models.head import Head
from tests.finetune.training.runs import run_of


@pytest.fixture(params=["tiny_text", "tiny_vision"])
def backbone(request: pytest.FixtureRequest) -> str:
    name: str = request.getfixturevalue(request.param)
    return name


def test_a_head_that_is_centred_gives_what_it_gave_and_comes_out_as_it_went_in(backbone: str, tmp_path: Path) -> None:
    run = run_of(backbone, tmp_path, Strategy.FULL)
    rows = TrainingRows(
        run.learn.examples,
        run.preprocessor,
        run.stored.directory,
        augment="none",
        seed=0,
        kind=FeatureKind.POOLED,
    )
    few = [rows[0, number] for number in range(8)]
    batch = rows.preprocessor.collate(few)
    grafted = Grafted(run.stored.load(), run.head, FeatureKind.POOLED).eval()
    before_VC = grafted(batch, few)
    grafted.centre(batch, few)
    torch.testing.assert_close(grafted(batch, few), before_VC, atol=1e-4, rtol=1e-4)
    head: Head = grafted.trained_head()
    torch.testing.assert_close(head.weight_CD, run.head.weight_CD)
    torch.testing.assert_close(head.bias_C, run.head.bias_C, atol=1e-5, rtol=1e-5)
