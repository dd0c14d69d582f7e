"""Pairs of texts that were read separately: four blocks of features, which differ in size.

Of vectors of length 1, the products u * v are a twentieth as large as u and v, so that a penalty on weights would rule out
their sum, which is the cosine. Blocks of equal mean square have an equal say.

Shapes: V pairs, D dimensions of a pair's vector.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from models.head import Head
from models.preprocessor import PAIR_WIDTH


def block_scales(vectors_VD: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What each dimension is multiplied by, one number a block: ``(D,)``."""
    blocks = np.split(np.square(vectors_VD).mean(axis=0, dtype=np.float64), PAIR_WIDTH)
    scales = [1 / np.sqrt(block.mean()) if block.any() else 1.0 for block in blocks]
    return np.repeat(scales, len(blocks[0])).astype(np.float32)


def unscaled(head: Head, scales_D: npt.NDArray[np.float32]) -> Head:
    """The head for vectors as they were before they were multiplied."""
    scales = torch.from_numpy(scales_D)
    if head.hidden is None:
        return replace(head, weight_CD=head.weight_CD * scales)
    return replace(head, hidden=replace(head.hidden, weight_HD=head.hidden.weight_HD * scales))
