"""A head with one hidden layer, on whitened features.

Shapes: N rows, K whitened dimensions, H hidden units, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from finetune.probes.probe import as_tensor
from finetune.whitening import Floats, Targets
from models.head import Hidden

MLP_ROWS = 1000  # fewer rows have no use for what it can tell apart beyond a linear head
UNITS = 128
_EPOCHS, _BATCH = 20, 64
_RATE, _DECAY, _DROPOUT = 2e-3, 1e-2, 0.3
_BETAS = (0.9, 0.999)


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
    """Learns both layers by AdamW with a rate that falls to nothing, as a cosine does (Loshchilov & Hutter 2017 and 2019).

    The hidden layer starts as He et al. 2015 ("Delving deep into rectifiers") have it, such that a unit's values are as
    large as its inputs'; the last one at zero, which is every class alike. In numpy: on layers this small torch spends most
    of its time between its threads.

    Args:
        features_NK: whitened: of mean squared length 1, which is multiplied up to 1 a dimension.
        targets_N: the index of each row's class.
        seed: of the first weights, the order of rows and dropout.
    """
    random, (rows, width), classes = np.random.default_rng(seed), features_NK.shape, int(targets_N.max()) + 1
    scale = np.float32(np.sqrt(width))
    scaled_NK = features_NK.astype(np.float32) * scale
    weight_KH = random.standard_normal((width, UNITS), dtype=np.float32) * np.float32(np.sqrt(2 / width))
    bias_H, weight_HC, bias_C = (np.zeros(shape, dtype=np.float32) for shape in (UNITS, (UNITS, classes), classes))
    parameters = [weight_KH, bias_H, weight_HC, bias_C]
    adam = _AdamW(parameters, steps=_EPOCHS * -(-rows // _BATCH))
    for _ in range(_EPOCHS):
        for batch_B in np.split(random.permutation(rows), range(_BATCH, rows, _BATCH)):
            batch_BK, targets_B = scaled_NK[batch_B], targets_N[batch_B]
            units_BH = batch_BK @ weight_KH + bias_H
            kept_BH = (units_BH > 0) & (random.random(units_BH.shape, dtype=np.float32) >= _DROPOUT)
            passed_BH = kept_BH / np.float32(1 - _DROPOUT)
            units_BH *= passed_BH
            logits_BC = units_BH @ weight_HC + bias_C
            slope_BC = np.exp(logits_BC - logits_BC.max(axis=1, keepdims=True))
            slope_BC /= slope_BC.sum(axis=1, keepdims=True)
            slope_BC[np.arange(len(batch_B)), targets_B] -= 1
            slope_BC /= len(batch_B)
            slope_BH = slope_BC @ weight_HC.T * passed_BH
            adam.step([batch_BK.T @ slope_BH, slope_BH.sum(axis=0), units_BH.T @ slope_BC, slope_BC.sum(axis=0)])
    return Layers((weight_KH * scale).T, bias_H, weight_HC.T, bias_C)


class _AdamW:
    """Changes parameters in place; matrices decay."""

    def __init__(self, parameters: Sequence[npt.NDArray[np.float32]], *, steps: int) -> None:
        self._parameters, self._steps, self._done = parameters, steps, 0
        self._means = [np.zeros_like(parameter) for parameter in parameters]
        self._squares = [np.zeros_like(parameter) for parameter in parameters]

    def step(self, slopes: Sequence[npt.NDArray[np.float32]]) -> None:
        rate = _RATE * (1 + math.cos(math.pi * self._done / self._steps)) / 2
        self._done += 1
        at_once = rate / (1 - _BETAS[0] ** self._done)
        bias = 1 - _BETAS[1] ** self._done
        for parameter, slope, mean, square in zip(self._parameters, slopes, self._means, self._squares, strict=True):
            mean += np.float32(1 - _BETAS[0]) * (slope - mean)
            square += np.float32(1 - _BETAS[1]) * (slope * slope - square)
            if parameter.ndim > 1:
                parameter *= np.float32(1 - rate * _DECAY)
            parameter -= np.float32(at_once) * mean / (np.sqrt(square / np.float32(bias)) + np.float32(1e-8))
