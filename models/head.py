"""The grafted part: a linear map from features to logits, and the one kernel that applies it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save


@dataclass(frozen=True, kw_only=True)
class Head:
    """A linear head; standardisation of the features is folded into its weights.

    Attributes:
        weight_CD: fp32.
        bias_C: fp32.
    """

    weight_CD: torch.Tensor
    bias_C: torch.Tensor

    def to_bytes(self) -> bytes:
        """The contents of ``head.safetensors``; equal heads give equal bytes."""
        return save({"weight": self.weight_CD.contiguous(), "bias": self.bias_C.contiguous()})

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """Reads ``head.safetensors``.

        Raises:
            ValueError: no safetensors, wrong names, types or shapes, or values that are not finite.
        """
        try:
            tensors = load(data)
        except SafetensorError as error:
            raise ValueError(f"a head is stored as safetensors: {error}") from None
        if set(tensors) != {"weight", "bias"}:
            raise ValueError(f"a head has 'weight' and 'bias', not {sorted(tensors)}")
        weight_CD, bias_C = tensors["weight"], tensors["bias"]
        if weight_CD.ndim != 2 or bias_C.shape != weight_CD.shape[:1]:
            raise ValueError(f"a head's weight (C, D) and bias (C) do not fit: {weight_CD.shape}, {bias_C.shape}")
        if weight_CD.dtype != torch.float32 or bias_C.dtype != torch.float32:
            raise ValueError("a head is stored as float32")
        if not (weight_CD.isfinite().all() and bias_C.isfinite().all()):
            raise ValueError("a head's values must be finite")
        return cls(weight_CD=weight_CD, bias_C=bias_C)

    def to(self, device: torch.device) -> Head:
        return Head(weight_CD=self.weight_CD.to(device), bias_C=self.bias_C.to(device))


def logits_by_head(features_BD: torch.Tensor, heads: Sequence[Head]) -> list[torch.Tensor]:
    """Applies to each row its own head, rows of one head together.

    Args:
        features_BD: a batch whose rows may belong to many models.
        heads: one a row; rows of the same model hold the same object.

    Returns:
        For each row its logits ``(C,)``; C differs from head to head.
    """
    rows_of: dict[int, list[int]] = {}
    for row, head in enumerate(heads):
        rows_of.setdefault(id(head), []).append(row)
    logits: list[torch.Tensor] = [features_BD.new_empty(0)] * len(heads)
    for rows in rows_of.values():
        head = heads[rows[0]]
        logits_NC = torch.nn.functional.linear(features_BD[rows], head.weight_CD, head.bias_C)
        for row, logits_C in zip(rows, logits_NC, strict=True):
            logits[row] = logits_C
    return logits


def probabilities(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Calibrated scores over the last dimension: softmax of logits over temperature (Guo et al. 2017)."""
    return torch.softmax(logits.double() / temperature, dim=-1)
