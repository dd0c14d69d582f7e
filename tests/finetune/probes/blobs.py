"""Clouds of rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64]


def blobs(rows: int, *, classes: int = 4, dimensions: int = 12, spread: float = 0.8) -> tuple[Features, Targets]:
    """One cloud a class; the same centres whatever the number of rows."""
    centres_CD = np.random.default_rng(7).normal(size=(classes, dimensions))
    targets_N = np.arange(rows) % classes
    noise_ND = np.random.default_rng(rows).normal(scale=spread, size=(rows, dimensions))
    return (centres_CD[targets_N] + noise_ND).astype(np.float32), targets_N
