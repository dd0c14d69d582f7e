"""The grafted part: from features to logits, by a linear map or with one hidden layer, and the one kernel that applies it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from models.task import Activation
from models.weights import parse_weights

_LINEAR, _HIDDEN = {"weight", "bias"}, {"hidden.weight", "hidden.bias"}


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """A layer of rectified linear units (Nair and Hinton 2010).

    Attributes:
        weight_HD: fp32, on the CPU.
        bias_H: likewise.
    """

    weight_HD: torch.Tensor
    bias_H: torch.Tensor

    def units(self, features_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(B, H)``."""
        weight_HD, bias_H = self._arrays
        units_BH: NDArray[np.float32] = features_BD.dot(weight_HD.T) + bias_H
        return np.maximum(units_BH, 0, out=units_BH)

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.weight_HD.detach().numpy(), self.bias_H.detach().numpy()


@dataclass(frozen=True, kw_only=True)
class Head:
    """A linear head, or one with a hidden layer; standardisation of the features is folded into its weights.

    Attributes:
        weight_CD: of the logits, fp32, on the CPU; with a hidden layer, D is the number of its units.
        bias_C: likewise.
        activation: turns its logits into scores. The task says which it is, so the file does not.
        hidden: what the features go through first; None where the head is linear.
    """

    weight_CD: torch.Tensor
    bias_C: torch.Tensor
    activation: Activation = "softmax"
    hidden: Hidden | None = None

    @classmethod
    def none(cls, feature_dim: int) -> Head:
        """That of an embedding: it reads features, and makes nothing of them."""
        return cls(weight_CD=torch.empty(0, feature_dim), bias_C=torch.empty(0), activation="identity")

    def to_bytes(self) -> bytes:
        """The contents of ``head.safetensors``; equal heads give equal bytes."""
        tensors = {"weight": self.weight_CD.contiguous(), "bias": self.bias_C.contiguous()}
        if self.hidden is not None:
            tensors |= {"hidden.weight": self.hidden.weight_HD.contiguous(), "hidden.bias": self.hidden.bias_H}
        return save(tensors)

    @classmethod
    def from_bytes(cls, data: bytes, activation: Activation = "softmax") -> Head:
        """Reads ``head.safetensors``.

        Args:
            activation: of its task.

        Raises:
            ValueError: no safetensors, wrong names, types or shapes, or values that are not finite.
        """
        tensors = parse_weights(data, most=len(_LINEAR | _HIDDEN))
        if set(tensors) not in (_LINEAR, _LINEAR | _HIDDEN):
            raise ValueError("a head has 'weight' and 'bias', and those of a hidden layer or none")
        if any(tensor.dtype != torch.float32 for tensor in tensors.values()):
            raise ValueError("a head is stored as float32")
        weight_CD, bias_C = _layer(tensors["weight"], tensors["bias"])
        hidden = None
        if set(tensors) > _LINEAR:
            weight_HD, bias_H = _layer(tensors["hidden.weight"], tensors["hidden.bias"])
            if len(bias_H) != weight_CD.shape[1]:
                raise ValueError(f"{len(bias_H)} hidden units do not fit a head that reads {weight_CD.shape[1]}")
            hidden = Hidden(weight_HD=weight_HD, bias_H=bias_H)
        return cls(weight_CD=weight_CD, bias_C=bias_C, activation=activation, hidden=hidden)

    def logits(self, features_BD: NDArray[np.float32], rows: Sequence[int]) -> NDArray[np.float32]:
        """The logits of some rows of a batch, one row's after the other's: ``(len(rows) * C,)``."""
        weight_CD, bias_C = self._arrays
        if self.hidden is not None:
            features_BD, rows = self.hidden.units(features_BD[rows]), range(len(rows))
        if len(rows) == 1:
            logits_L: NDArray[np.float32] = weight_CD.dot(features_BD[rows[0]]) + bias_C
        else:
            logits_L = (features_BD[rows].dot(weight_CD.T) + bias_C).ravel()
        return logits_L

    @cached_property
    def classes(self) -> int:
        """C."""
        return len(self.bias_C)

    @property
    def feature_dim(self) -> int:
        """The length of the vectors that it reads."""
        return int((self.weight_CD if self.hidden is None else self.hidden.weight_HD).shape[1])

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same memory; made once, as a batch may hold many heads."""
        return self.weight_CD.detach().numpy(), self.bias_C.detach().numpy()


def _layer(weight_CD: torch.Tensor, bias_C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if weight_CD.ndim != 2 or bias_C.shape != weight_CD.shape[:1] or not len(bias_C):
        raise ValueError(
            f"a head's weight (C, D) and bias (C) do not fit: {tuple(weight_CD.shape)}, {tuple(bias_C.shape)}"
        )
    return weight_CD, bias_C


def scores_by_head(
    features_BD: torch.Tensor, heads: Sequence[Head], temperatures: Sequence[float]
) -> Sequence[NDArray[np.float64]]:
    """Gives each row the calibrated scores of its own head: what evaluation, the golden check and the server ask.

    Rows are grouped by head, and each group is one product with the weights of its head. The logits of all rows lie in one
    array, each row's at its offset, whatever the number of its classes: nothing is padded to the widest head. They are
    divided by the temperature (Guo et al. 2017), and each activation is applied once to all rows that have it, in float64.

    The weights themselves are not put together: to copy those of a batch's heads takes as long as it saves where heads are
    small, and several times longer where they are large (``python -m tests.benchmarks.kernels``); and a matrix of all heads
    that are loaded would have to change beside the batches that read it. Numpy multiplies, because a product with a small
    head takes torch several times as long; features on a device are brought to the CPU once a batch.

    Args:
        features_BD: fp32; a batch whose rows may belong to many models.
        heads: one a row; rows of the same model hold the same object.
        temperatures: one a row.

    Returns:
        For each row its scores ``(C,)``; C differs from head to head. They sum to 1 (softmax), lie between 0 and 1
        (sigmoid), or are any numbers (identity).
    """
    if not heads:
        return []
    features: NDArray[np.float32] = features_BD.cpu().numpy()
    rows_of: dict[int, list[int]] = {}
    for row, head in enumerate(heads):
        rows_of.setdefault(id(head), []).append(row)
    groups = list(rows_of.values())
    rows_with: dict[Activation, int] = {}
    for head in heads:
        rows_with[head.activation] = rows_with.get(head.activation, 0) + 1
    if len(rows_with) > 1:
        groups.sort(key=lambda rows: heads[rows[0]].activation)
    order = [row for rows in groups for row in rows]
    sizes_B = np.array([heads[row].classes for row in order])
    ends_B = np.cumsum(sizes_B)
    starts_B = ends_B - sizes_B
    logits_L = np.concatenate([heads[rows[0]].logits(features, rows) for rows in groups])
    scores_L = logits_L / np.array([temperatures[row] for row in order]).repeat(sizes_B)
    if len(rows_with) == 1:  # nothing to take apart
        _activate(heads[0].activation, scores_L, starts_B, sizes_B)
    else:
        first = 0
        for activation in sorted(rows_with):
            last = first + rows_with[activation]
            start = starts_B[first]
            _activate(activation, scores_L[start : ends_B[last - 1]], starts_B[first:last] - start, sizes_B[first:last])
            first = last
    scores: list[NDArray[np.float64]] = [scores_L] * len(heads)
    for row, start, end in zip(order, starts_B.tolist(), ends_B.tolist(), strict=True):
        scores[row] = scores_L[start:end]
    return scores


def _activate(
    activation: Activation, logits_L: NDArray[np.float64], starts_B: NDArray[np.intp], sizes_B: NDArray[np.intp]
) -> None:
    """Turns the logits of some rows into scores, where they lie."""
    if activation == "softmax":
        logits_L -= np.maximum.reduceat(logits_L, starts_B).repeat(sizes_B)
        np.exp(logits_L, out=logits_L)
        logits_L /= np.add.reduceat(logits_L, starts_B).repeat(sizes_B)
    elif activation == "sigmoid":  # by the hyperbolic tangent, which does not overflow
        np.tanh(logits_L / 2, out=logits_L)
        logits_L += 1
        logits_L /= 2


def best(scores_C: NDArray[np.floating[Any]], count: int) -> Sequence[int]:
    """The classes with the highest scores, best first; of equal ones, the one that comes first among the labels.

    Args:
        count: how many, from 1 to C. A few of many cost no sorting of all.
    """
    if count == 1:
        return [int(scores_C.argmax())]
    left = len(scores_C) - count
    candidates = np.flatnonzero(scores_C >= np.partition(scores_C, left)[left])  # those that tie for the last place too
    ranking: list[int] = candidates[np.argsort(-scores_C[candidates], kind="stable")[:count]].tolist()
    return ranking
