"""Vectors of texts or images."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """One vector for each item, in their order.

    Attributes:
        vectors: (N, D).
        model: that they are from, as it calls itself.
        tokens: that were read for them.
    """

    vectors: NDArray[np.float32]
    model: str
    tokens: int


def parse_vectors(document: Mapping[str, Any]) -> Sequence[NDArray[np.float32]]:
    """The vectors (D,) of an answer of ``/v1/embeddings``, by their index: float32, little-endian, in base64.

    Raises:
        KeyError, TypeError, ValueError: it is no such answer.
    """
    import numpy as np

    data = sorted(document["data"], key=lambda each: each["index"])
    return [np.frombuffer(base64.b64decode(each["embedding"], validate=True), "<f4") for each in data]


def stacked(vectors: Sequence[NDArray[np.float32]], *, model: str, tokens: int) -> Embeddings:
    """Those of all answers as one.

    Args:
        vectors: (D,) each; at least one.

    Raises:
        ValueError: they are not equally long.
    """
    import numpy as np

    return Embeddings(vectors=np.stack(vectors).astype(np.float32), model=model, tokens=tokens)
