from __future__ import annotations

import pytest
import torch
from torch import nn

from finetune.strategy import Strategy, TrainedGroup
from finetune.training.optimizer import build_optimizer, optimizer_tensors, restore_optimizer, set_learning_rates
from finetune.training.recipe import recipe_for
from models.backbone import Modality


def groups() -> list[TrainedGroup]:
    torch.manual_seed(0)
    lower, upper = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), nn.Conv2d(1, 2, 3)
    return [
        TrainedGroup(name="lower", parameters=dict(lower.named_parameters()), rate=0.5),
        TrainedGroup(name="upper", parameters=dict(upper.named_parameters())),
    ]


def test_only_matrices_and_kernels_decay_and_each_group_has_its_rate() -> None:
    recipe = recipe_for(Strategy.FULL, Modality.TEXT, 100, learning_rate=0.1, weight_decay=0.3)
    found = build_optimizer(groups(), recipe).param_groups
    assert [(group["lr"], group["weight_decay"], [p.ndim for p in group["params"]]) for group in found] == [
        (0.05, 0.3, [2]),
        (0.05, 0.0, [1, 1, 1]),
        (0.1, 0.3, [4]),
        (0.1, 0.0, [1]),
    ]


def test_rates_are_shares_of_each_groups_own() -> None:
    optimizer = build_optimizer(groups(), recipe_for(Strategy.FULL, Modality.TEXT, 100, learning_rate=0.1))
    for share in (0.5, 0.1):  # not of what it was before
        set_learning_rates(optimizer, share)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [0.05 * share] * 2 + [0.1 * share] * 2
        )


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_what_it_remembers_can_be_put_back(name: str) -> None:
    recipe = recipe_for(Strategy.FULL, Modality.TEXT, 100, learning_rate=0.1, optimizer=name)

    def steps(count: int, parts: list[TrainedGroup], optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
        parameters = [parameter for group in parts for parameter in group.parameters.values()]
        for _ in range(count):
            optimizer.zero_grad()
            torch.stack([(parameter**2).sum() for parameter in parameters]).sum().backward()
            optimizer.step()
        return [parameter.detach().clone() for parameter in parameters]

    whole = groups()
    wanted = steps(5, whole, build_optimizer(whole, recipe))

    first = groups()
    before = build_optimizer(first, recipe)
    half = steps(2, first, before)
    again = groups()
    with torch.no_grad():
        for parameter, value in zip((p for g in again for p in g.parameters.values()), half, strict=True):
            parameter.copy_(value)
    after = build_optimizer(again, recipe)
    restore_optimizer(after, {key: tensor.clone() for key, tensor in optimizer_tensors(before).items()})
    assert all(torch.equal(a, b) for a, b in zip(steps(3, again, after), wanted, strict=True))
