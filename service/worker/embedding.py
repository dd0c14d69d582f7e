"""A row's embedding: the features of its backbone, as they are sent."""

from __future__ import annotations

import numpy as np
import orjson
from numpy.typing import NDArray

from service.messages import Embedding, pack_element


def embedding(features_D: NDArray[np.float32], wish: Embedding) -> bytes:
    """The bytes of one.

    Shorter ones are of use where the backbone was trained for it (Kusupati et al. 2022, "Matryoshka representation learning").
    """
    values = features_D[: wish.dimensions]
    if wish.normalize:
        length = np.linalg.norm(values)
        values = values / length if length > 0 else values
    if wish.as_json:
        return pack_element(orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY))
    return values.astype("<f4").tobytes()
