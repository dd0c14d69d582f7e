from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.messages import Embedding, unpack_elements
from service.worker.embedding import embedding

FEATURES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40)


@given(FEATURES, st.integers(1, 50) | st.none(), st.booleans())
def test_it_is_the_first_dimensions_at_length_one_or_as_they_are(
    features: list[float], dimensions: int | None, normalize: bool
) -> None:
    features_D = np.array(features, np.float32)
    raw = embedding(features_D, Embedding(dimensions=dimensions, normalize=normalize))
    found = np.frombuffer(raw, "<f4")
    kept = features_D[:dimensions].astype(np.float64)
    assert len(found) == min(len(features), dimensions or len(features))
    length = np.linalg.norm(kept)
    if normalize and length > 1e-15:  # a shorter one has no direction in fp32
        assert np.linalg.norm(found.astype(np.float64)) == pytest.approx(1, abs=1e-5)
        assert found == pytest.approx(kept / length, abs=1e-5)
    elif not normalize:
        assert (found == features_D[:dimensions]).all()


@given(FEATURES, st.booleans())
def test_in_json_it_is_the_same_numbers(features: list[float], normalize: bool) -> None:
    features_D = np.array(features, np.float32)
    raw = embedding(features_D, Embedding(normalize=normalize))
    (written,) = unpack_elements(embedding(features_D, Embedding(normalize=normalize, as_json=True)))
    assert (np.array(json.loads(written), np.float32) == np.frombuffer(raw, "<f4")).all()


def test_a_vector_of_zeros_stays_one() -> None:
    assert embedding(np.zeros(3, np.float32), Embedding()) == bytes(12)
