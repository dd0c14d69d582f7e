"""What is wrong with logits, a number a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch.nn import functional

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def _cross_entropy(logits_BC: torch.Tensor, targets_B: torch.Tensor, smoothing: float) -> torch.Tensor:
    return functional.cross_entropy(logits_BC, targets_B, label_smoothing=smoothing, reduction="none")


def _binary_cross_entropy(logits_BC: torch.Tensor, targets_BC: torch.Tensor, smoothing: float) -> torch.Tensor:
    smooth_BC = targets_BC * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits_BC, smooth_BC, reduction="none").mean(dim=1)


def _squared_error(logits_B1: torch.Tensor, targets_B: torch.Tensor, _smoothing: float) -> torch.Tensor:
    return (logits_B1[:, 0] - targets_B).square()


LOSSES: Mapping[str, Loss] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "mean_squared_error": _squared_error,
}
"""By `models.task.TaskTraits.loss`: logits, targets and label smoothing to losses ``(B,)``."""
