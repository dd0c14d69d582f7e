"""What a backbone gives to a head."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class FeatureKind(StrEnum):
    """One vector a row, or one vector a token."""

    POOLED = "pooled"
    TOKENS = "tokens"


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of one batch, fp32.

    Attributes:
        kind: which of the two shapes ``values`` has.
        values: pooled ``(B, D)``, or tokens ``(B, T, D)``.
        mask_BT: for tokens, 1 where a token is real and 0 where it is padding.
    """

    kind: FeatureKind
    values: torch.Tensor
    mask_BT: torch.Tensor | None = None
