"""The head: what its file may hold, and the one kernel that applies many heads."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from models.head import Head, logits_by_head, probabilities


def head(classes: int, dim: int, seed: int = 0) -> Head:
    generator = torch.Generator().manual_seed(seed)
    return Head(
        weight_CD=torch.randn(classes, dim, generator=generator), bias_C=torch.randn(classes, generator=generator)
    )


def test_a_head_survives_its_file() -> None:
    original = head(3, 5)
    found = Head.from_bytes(original.to_bytes())
    assert torch.equal(found.weight_CD, original.weight_CD)
    assert torch.equal(found.bias_C, original.bias_C)


def test_equal_heads_are_equal_bytes_however_they_lie_in_memory() -> None:
    original = head(3, 5)
    strided = Head(weight_CD=original.weight_CD.T.contiguous().T, bias_C=original.bias_C)
    assert not strided.weight_CD.is_contiguous()
    assert strided.to_bytes() == original.to_bytes()


GOOD = {"weight": torch.ones(3, 5), "bias": torch.ones(3)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": None}, "has 'weight' and 'bias'"),
        ({"extra": torch.ones(1)}, "has 'weight' and 'bias'"),
        ({"weight": torch.ones(15)}, "do not fit"),
        ({"weight": torch.ones(3, 5, 1)}, "do not fit"),
        ({"bias": torch.ones(4)}, "do not fit"),
        ({"bias": torch.ones(3, 1)}, "do not fit"),
        ({"weight": torch.ones(3, 5).half()}, "float32"),
        ({"bias": torch.ones(3).double()}, "float32"),
        ({"weight": torch.full((3, 5), torch.nan)}, "finite"),
        ({"bias": torch.tensor([0, torch.inf, 0])}, "finite"),
    ],
)
def test_a_file_that_is_no_head_is_refused(changes: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = {name: tensor for name, tensor in {**GOOD, **changes}.items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        Head.from_bytes(save(tensors))


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="safetensors"):
        Head.from_bytes(data)


@given(st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=300)
def test_a_damaged_file_is_a_finite_head_or_refused(position: int, value: int) -> None:
    data = bytearray(save(GOOD))
    data[position % len(data)] = value
    try:
        found = Head.from_bytes(bytes(data))
    except ValueError:
        return
    assert found.weight_CD.isfinite().all()
    assert found.weight_CD.shape[0] == found.bias_C.shape[0]


def test_a_file_cut_anywhere_is_refused() -> None:
    data = save(GOOD)
    for cut in range(len(data)):
        with pytest.raises(ValueError, match="safetensors"):
            Head.from_bytes(data[:cut])


def test_a_header_that_promises_more_than_there_is_is_refused() -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 8]}}).encode()
    with pytest.raises(ValueError, match="safetensors"):
        Head.from_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=24), st.integers(1, 12))
@settings(deadline=None, max_examples=100)
def test_each_row_gets_its_own_head(owners: list[int], dim: int) -> None:
    heads = [head(classes, dim, seed) for seed, classes in enumerate((1, 2, 2, 7, 100))]
    features_BD = torch.randn(len(owners), dim, generator=torch.Generator().manual_seed(len(owners)))
    found = logits_by_head(features_BD, [heads[owner] for owner in owners])
    assert len(found) == len(owners)
    for row, owner in enumerate(owners):
        own = heads[owner]
        wanted = own.weight_CD.double() @ features_BD[row].double() + own.bias_C.double()
        torch.testing.assert_close(found[row].double(), wanted, atol=1e-5, rtol=1e-5)


def test_no_rows_have_no_logits() -> None:
    assert logits_by_head(torch.zeros(0, 4), []) == []


def test_heads_move_to_a_device() -> None:
    moved = head(2, 3).to(torch.device("meta"))
    assert {moved.weight_CD.device.type, moved.bias_C.device.type} == {"meta"}


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20),
    st.floats(0.05, 20),
    st.floats(-1e3, 1e3, width=32),
)
def test_scores_are_a_distribution_and_do_not_change_with_a_constant(
    logits: list[float], temperature: float, constant: float
) -> None:
    scores = probabilities(torch.tensor(logits), temperature)
    assert scores.dtype == torch.float64
    assert float(scores.sum()) == pytest.approx(1)
    assert bool((scores >= 0).all())
    shifted = probabilities(torch.tensor(logits, dtype=torch.float64) + constant, temperature)
    torch.testing.assert_close(shifted, scores, atol=1e-6, rtol=1e-6)


def test_temperature_flattens_or_sharpens() -> None:
    logits = torch.tensor([2.0, 1.0])
    sharp, plain, flat = (float(probabilities(logits, t)[0]) for t in (0.5, 1.0, 2.0))
    assert plain == pytest.approx(1 / (1 + torch.e**-1))
    assert sharp == pytest.approx(1 / (1 + torch.e**-2))
    assert flat == pytest.approx(1 / (1 + torch.e**-0.5))
