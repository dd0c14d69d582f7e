"""A fitted head, and how it was chosen: what every task's fit comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from finetune.whitening import Floats
from models.head import Head, Hidden
from models.manifest import Calibration, Setting
from models.task import Activation

Progress: TypeAlias = Callable[[int, int], None]
"""Called with candidates tried and candidates planned; the plan grows while the search goes on."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One choice of settings and what cross-validation says of it, on the rows that were held out.

    Attributes:
        settings: by name, as the manifest keeps them.
        calibration: fitted on the out-of-fold logits.
        score: the task's primary metric; higher is better.
        loss: what candidates are compared by; lower is better.
    """

    settings: Mapping[str, Setting]
    calibration: Calibration
    score: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A head that was fitted on all rows with the settings of the best candidate.

    Attributes:
        head: whitening is folded into its weights.
        chosen: its score is a little optimistic, because it was chosen.
        folds: of the cross-validation.
        candidates: all that were tried, in order.
        converged: whether the optimiser ended by itself for the final head, not at its limit of iterations.
    """

    head: Head
    chosen: Candidate
    folds: int
    candidates: Sequence[Candidate]
    converged: bool


def head_of(weight_CD: Floats, bias_C: Floats, activation: Activation, hidden: Hidden | None = None) -> Head:
    """A head as it is stored: fp32."""
    return Head(weight_CD=as_tensor(weight_CD), bias_C=as_tensor(bias_C), activation=activation, hidden=hidden)


def as_tensor(values: Floats) -> torch.Tensor:
    """In fp32."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
