"""Which rows a version has learnt from: digests that are kept in it, so that a later one is not compared with it on those.

Whoever has a version can tell by them whether a row that he also has was learnt from, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from finetune.example import Example

FILE = "report/learnt_rows.safetensors"
_TENSOR = "digests"


def learnt_rows(examples: Iterable[Example]) -> bytes:
    """The file: the first 64 bits of each identity, ascending. Of 100,000 rows 0.8 MB; two differ in all likelihood."""
    return save({_TENSOR: np.unique(_digests(examples))})


def rows_not_learnt(version: Path, examples: Sequence[Example]) -> list[int] | None:
    """Which examples a version has not learnt from; None where it does not say.

    Args:
        version: its directory.
    """
    file = version / FILE
    if not file.is_file():
        return None
    learnt = load_file(file)[_TENSOR]
    return np.flatnonzero(~np.isin(_digests(examples), learnt)).tolist()


def _digests(examples: Iterable[Example]) -> npt.NDArray[np.uint64]:
    return np.array([int(example.identity[:16], 16) for example in examples], dtype=np.uint64)
