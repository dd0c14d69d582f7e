"""A head with one hidden layer, on whitened features.

Shapes: N rows, K whitened dimensions, H hidden units, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from finetune.probes.probe import as_tensor
from finetune.whitening import Floats, Targets
from models.head import Hidden

MLP_ROWS = 1000  # fewer rows have no use for what it can tell apart beyond a linear head
UNITS = 128
_EPOCHS, _BATCH = 20, 64
_RATE, _DECAY, _DROPOUT = 2e-3, 1e-2, 0.3


class Layers(NamedTuple):
    """``weight_HK`` and ``bias_H`` are of the hidden layer."""

    weight_HK: Floats
    bias_H: Floats
    weight_CH: Floats
    bias_C: Floats

    def unwhitened(self, whitening_DK: Floats, mean_D: Floats) -> Hidden:
        """The hidden layer for rows as they were before whitening."""
        weight_HD = self.weight_HK.astype(np.float64) @ whitening_DK.T.astype(np.float64)
        return Hidden(weight_HD=as_tensor(weight_HD), bias_H=as_tensor(self.bias_H - weight_HD @ mean_D))


def fit_mlp(features_NK: Floats, targets_N: Targets, *, seed: int) -> Layers:
    """Learns both layers by AdamW with a rate that falls to nothing, as a cosine does (Loshchilov & Hutter 2019).

    The hidden layer starts as He et al. 2015 ("Delving deep into rectifiers") have it, such that a unit's values are as
    large as its inputs'; the last one at zero, which is every class alike. The calling thread computes alone.

    Args:
        features_NK: whitened: of mean squared length 1, which is multiplied up to 1 a dimension.
        seed: of the first weights, the order of rows and dropout.
    """
    rows, width = features_NK.shape
    scale = float(np.sqrt(width))
    features = torch.from_numpy(np.ascontiguousarray(features_NK, dtype=np.float32)) * scale
    targets = torch.from_numpy(targets_N.astype(np.int64))
    generator = torch.Generator().manual_seed(seed)
    weight_HK = torch.randn(UNITS, width, generator=generator) * float(np.sqrt(2 / width))
    bias_H = torch.zeros(UNITS)
    weight_CH, bias_C = torch.zeros(int(targets.max()) + 1, UNITS), torch.zeros(int(targets.max()) + 1)
    parameters = [weight_HK, bias_H, weight_CH, bias_C]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_DECAY)
    steps = _EPOCHS * -(-rows // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(_EPOCHS):
        for batch_B in torch.split(torch.randperm(rows, generator=generator), _BATCH):
            units_BH = torch.relu(features[batch_B] @ weight_HK.T + bias_H)
            kept_BH = torch.rand(units_BH.shape, generator=generator) >= _DROPOUT
            loss = nn.functional.cross_entropy(
                units_BH * kept_BH / (1 - _DROPOUT) @ weight_CH.T + bias_C, targets[batch_B]
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    numbers = [parameter.detach().numpy() for parameter in parameters]
    return Layers(numbers[0] * scale, *numbers[1:])
