"""The head: what its file may hold, and the one kernel that applies many heads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load, save

from models.head import Head, Hidden, best, scores_by_head
from models.task import Activation


def head(classes: int, dim: int, seed: int = 0, activation: Activation = "softmax") -> Head:
    generator = torch.Generator().manual_seed(seed)
    return Head(
        weight_CD=torch.randn(classes, dim, generator=generator),
        bias_C=torch.randn(classes, generator=generator),
        activation=activation,
    )


def test_a_head_survives_its_file() -> None:
    original = head(3, 5)
    found = Head.from_bytes(original.to_bytes())
    assert torch.equal(found.weight_CD, original.weight_CD)
    assert torch.equal(found.bias_C, original.bias_C)
    assert found.activation == "softmax"
    assert Head.from_bytes(original.to_bytes(), "sigmoid").activation == "sigmoid"


def test_equal_heads_are_equal_bytes_however_they_lie_in_memory() -> None:
    original = head(3, 5)
    strided = Head(weight_CD=original.weight_CD.T.contiguous().T, bias_C=original.bias_C)
    assert not strided.weight_CD.is_contiguous()
    assert strided.to_bytes() == original.to_bytes()


def two_layers(classes: int, units: int, dim: int, seed: int = 0) -> Head:
    generator = torch.Generator().manual_seed(seed)
    hidden = Hidden(
        weight_HD=torch.randn(units, dim, generator=generator), bias_H=torch.randn(units, generator=generator)
    )
    return replace(head(classes, units, seed), hidden=hidden)


def test_a_hidden_layer_survives_its_file() -> None:
    original = two_layers(3, 7, 5)
    found = Head.from_bytes(original.to_bytes())
    assert (found.classes, found.feature_dim) == (3, 5)
    assert found.hidden is not None
    assert original.hidden is not None
    assert torch.equal(found.hidden.weight_HD, original.hidden.weight_HD)
    assert torch.equal(found.hidden.bias_H, original.hidden.bias_H)
    assert set(load(original.to_bytes())) == {"weight", "bias", "hidden.weight", "hidden.bias"}


def test_a_hidden_layer_is_computed_beside_linear_heads() -> None:
    deep, linear = two_layers(3, 7, 5), head(4, 5)
    features_BD = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    order = [deep, linear, deep, linear, linear, deep]
    found = scores_by_head(features_BD, order, [2.0] * 6)
    assert deep.hidden is not None
    for row, own in enumerate(order):
        logits_C = (
            own.weight_CD
            @ (
                features_BD[row]
                if own is linear
                else torch.relu(deep.hidden.weight_HD @ features_BD[row] + deep.hidden.bias_H)
            )
            + own.bias_C
        )
        np.testing.assert_allclose(found[row], torch.softmax(logits_C / 2, 0), atol=1e-5)
    (alone,) = scores_by_head(features_BD[:1], [deep], [2.0])
    np.testing.assert_allclose(alone, found[0], atol=1e-6)


GOOD = {"weight": torch.ones(3, 5), "bias": torch.ones(3)}
DEEP = {"hidden.weight": torch.ones(5, 4), "hidden.bias": torch.ones(5)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": None}, "has 'weight' and 'bias'"),
        ({"extra": torch.ones(1)}, "has 'weight' and 'bias'"),
        ({"weight": torch.ones(15)}, "do not fit"),
        ({"weight": torch.ones(3, 5, 1)}, "do not fit"),
        ({"bias": torch.ones(4)}, "do not fit"),
        ({"weight": torch.ones(0, 5), "bias": torch.ones(0)}, "do not fit"),
        ({"bias": torch.ones(3, 1)}, "do not fit"),
        ({"weight": torch.ones(3, 5).half()}, "float32"),
        ({"bias": torch.ones(3).double()}, "float32"),
        ({"weight": torch.full((3, 5), torch.nan)}, "finite"),
        ({"bias": torch.tensor([0, torch.inf, 0])}, "finite"),
        ({"hidden.weight": torch.ones(5, 4)}, "has 'weight' and 'bias'"),
        ({**DEEP, "hidden.bias": torch.ones(6)}, "do not fit"),
        ({**DEEP, "hidden.weight": torch.ones(6, 4), "hidden.bias": torch.ones(6)}, "6 hidden units do not fit"),
        ({**DEEP, "hidden.weight": torch.full((5, 4), torch.nan)}, "finite"),
        ({**DEEP, "hidden.bias": torch.ones(5).half()}, "float32"),
    ],
)
def test_a_file_that_is_no_head_is_refused(changes: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = {name: tensor for name, tensor in {**GOOD, **changes}.items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        Head.from_bytes(save(tensors))


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"safetensors|header"):
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


ACTIVATIONS: tuple[Activation, ...] = ("softmax", "sigmoid", "identity", "softmax", "sigmoid", "identity", "softmax")
HEADS = tuple(
    head(classes, dim, seed, activation)
    for dim in (1, 12)
    for seed, (classes, activation) in enumerate(zip((1, 2, 1, 2, 7, 3, 100), ACTIVATIONS, strict=True))
)
BATCHES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=40)
MIXED = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=40)


ACTIVATE: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda logits_C: torch.softmax(logits_C, 0),
    "sigmoid": torch.sigmoid,
    "identity": lambda logits_C: logits_C,
}


def features(seeds: list[int], dim: int) -> torch.Tensor:
    """A row for each seed: rows of equal seeds are equal."""
    rows = [torch.randn(dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)


@given(MIXED, st.sampled_from([0, 7]))
@settings(deadline=None)
def test_each_row_gets_the_scores_of_its_own_head(batch: list[tuple[int, int]], first: int) -> None:
    heads = [HEADS[first + owner] for owner, _ in batch]
    temperatures = [0.5 + owner for owner, _ in batch]
    features_BD = features([seed for _, seed in batch], heads[0].weight_CD.shape[1])
    found = scores_by_head(features_BD, heads, temperatures)
    assert len(found) == len(batch)
    for row, own in enumerate(heads):
        logits_C = own.weight_CD.double() @ features_BD[row].double() + own.bias_C.double()
        wanted_C = ACTIVATE[own.activation](logits_C / temperatures[row])
        assert found[row].dtype == np.float64
        np.testing.assert_allclose(found[row], wanted_C.numpy(), atol=1e-5, rtol=0)


WIDE = tuple(head(classes, 384, seed) for seed, classes in enumerate((2, 4, 20, 100, 1000)))


@given(BATCHES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_row_does_not_depend_on_its_batch_mates(batch: list[tuple[int, int]], random: Random) -> None:
    """Heads of any sizes, rows that are there twice, any order: each row's scores are those that it gets alone."""
    features_BD = features([seed for _, seed in batch], 384) / 10
    heads = [WIDE[owner] for owner, _ in batch]
    ones = [1.0] * len(batch)
    together = scores_by_head(features_BD, heads, ones)
    order = random.sample(range(len(batch)), len(batch))
    shuffled = scores_by_head(features_BD[order], [heads[row] for row in order], ones)
    for place, row in enumerate(order):
        (alone,) = scores_by_head(features_BD[row : row + 1], [heads[row]], [1.0])
        np.testing.assert_allclose(together[row], alone, atol=1e-5, rtol=0)
        np.testing.assert_allclose(shuffled[place], alone, atol=1e-5, rtol=0)


def test_no_rows_have_no_scores() -> None:
    assert not scores_by_head(torch.zeros(0, 4), [], [])


def identity(logits: list[float]) -> Head:
    """A head whose logits are its bias."""
    return Head(weight_CD=torch.zeros(len(logits), 1), bias_C=torch.tensor(logits))


def scores_of(logits: list[float], temperature: float = 1.0) -> NDArray[np.float64]:
    return scores_by_head(torch.zeros(1, 1), [identity(logits)], [temperature])[0]


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20),
    st.floats(0.05, 20),
    st.integers(-1000, 1000),
)
def test_scores_are_a_distribution_and_do_not_change_with_a_constant(
    logits: list[float], temperature: float, constant: int
) -> None:
    scores = scores_of(logits, temperature)
    assert scores.sum() == pytest.approx(1)
    assert (scores >= 0).all()
    exact = [float(round(each)) for each in logits]  # so that the sum is exact in float32
    shifted = scores_of([each + constant for each in exact], temperature)
    np.testing.assert_allclose(shifted, scores_of(exact, temperature), atol=1e-12)


def test_temperature_flattens_or_sharpens() -> None:
    sharp, plain, flat = (scores_of([2.0, 1.0], t)[0] for t in (0.5, 1.0, 2.0))
    assert plain == pytest.approx(1 / (1 + math.exp(-1)))
    assert sharp == pytest.approx(1 / (1 + math.exp(-2)))
    assert flat == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_a_sigmoid_does_not_overflow() -> None:
    own = Head(weight_CD=torch.zeros(5, 1), bias_C=torch.tensor([-3e38, -800, 0, 800, 3e38]), activation="sigmoid")
    (scores,) = scores_by_head(torch.zeros(1, 1), [own], [0.05])
    assert scores.tolist() == [0, 0, 0.5, 1, 1]


@given(st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0]) | st.floats(0, 1), min_size=1, max_size=300), st.data())
def test_the_best_come_first_and_equal_ones_in_the_order_of_the_labels(
    scores: list[float], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(scores)))
    wanted = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:count]
    assert best(np.array(scores), count) == wanted
