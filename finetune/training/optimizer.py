"""Torch's optimisers over groups of parameters, each with its own rate and decay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from finetune.strategy import TrainedGroup
from finetune.training.recipe import Recipe


def build_optimizer(groups: Iterable[TrainedGroup], recipe: Recipe) -> torch.optim.Optimizer:
    """An optimiser whose groups hold their highest rate as ``base_lr``.

    Weight decay pulls on matrices and kernels only: a bias or a normalisation's scale has one dimension, and no capacity to
    overfit with (He et al. 2019, "Bag of Tricks for Image Classification", section 3.1).
    """
    parts: list[dict[str, Any]] = []
    for group in groups:
        rate = group.rate * recipe.learning_rate
        for decay, matrices in ((recipe.weight_decay, True), (0.0, False)):
            parameters = [p for p in group.parameters.values() if (p.ndim > 1) is matrices]
            if parameters:
                parts.append({"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay})
    return _OPTIMIZERS[recipe.optimizer](parts)


def set_learning_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Gives every group this share of its highest rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * share


def _sgd(parts: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parts, momentum=0.9, nesterov=True)


_OPTIMIZERS: Mapping[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What it remembers, by ``<number of the parameter>.<name>``."""
    return {
        f"{number}.{name}": value if isinstance(value, torch.Tensor) else torch.tensor(float(value))
        for number, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Gives it back what `optimizer_tensors` took."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
