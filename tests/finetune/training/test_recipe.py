"""Row J13: numbers that make no sense are refused with their bounds."""

from __future__ import annotations

import pytest

from finetune.strategy import Strategy
from finetune.training.recipe import recipe_for
from models.backbone import Modality
from models.errors import InvalidParameter


@pytest.mark.parametrize(
    ("option", "value", "bound"),
    [
        ("learning_rate", 0.0, "greater than 0"),
        ("learning_rate", -1.0, "greater than 0"),
        ("learning_rate", 1e9, "less than or equal to 1"),
        ("learning_rate", float("nan"), ""),
        ("epochs", 0, "greater than or equal to 1"),
        ("epochs", 10**9, "less than or equal to 1000"),
        ("batch_size", 0, "greater than or equal to 1"),
        ("batch_size", 10**9, "less than or equal to 8192"),
        ("seed", 2**70, "less than 4294967296"),
        ("seed", -1, "greater than or equal to 0"),
        ("layer_decay", 0.0, "greater than 0"),
        ("dropout", 1.0, "less than 1"),
        ("label_smoothing", 1.0, "less than 1"),
        ("lora_rank", 0, "greater than or equal to 1"),
    ],
)
def test_a_number_out_of_bounds_is_refused(option: str, value: float, bound: str) -> None:
    with pytest.raises(InvalidParameter, match=f"--{option.replace('_', '-')} .*{bound}"):
        recipe_for(Strategy.FULL, Modality.TEXT, 100, **{option: value})


@pytest.mark.parametrize("modality", Modality)
@pytest.mark.parametrize("strategy", [Strategy.PARTIAL, Strategy.FULL, Strategy.LORA])
def test_every_strategy_has_defaults_and_takes_what_the_user_chose(strategy: Strategy, modality: Modality) -> None:
    recipe = recipe_for(strategy, modality, 100, epochs=None)
    assert recipe.strategy is strategy
    chosen = recipe_for(strategy, modality, 100, epochs=7, learning_rate=0.5)
    assert (chosen.epochs, chosen.learning_rate) == (7, 0.5)
    assert chosen.batch_size == recipe.batch_size


@pytest.mark.parametrize(
    ("rows", "epochs"), [(1, 30), (70, 30), (200, 16), (500, 10), (3394, 5), (10_000, 3), (1_000_000, 3)]
)
def test_few_rows_are_seen_more_often_than_many(rows: int, epochs: int) -> None:
    assert recipe_for(Strategy.FULL, Modality.TEXT, rows).epochs == epochs
    assert recipe_for(Strategy.FULL, Modality.TEXT, rows).patience == max(3, epochs // 3)
    assert recipe_for(Strategy.FULL, Modality.TEXT, rows, epochs=2).epochs == 2
    assert recipe_for(Strategy.FULL, Modality.TEXT, rows, pretrained=False).epochs == 30
