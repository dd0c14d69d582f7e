"""Golden inputs: kept with a version, and compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save

from models.backbone import Modality
from models.errors import VersionCorrupt
from models.golden import FEATURE_TOLERANCE, SCORE_TOLERANCE, GoldenSet
from models.head import Head
from models.precision import Precision
from models.preprocessor import RawItem
from models.task import Task


def write(golden: GoldenSet, directory: Path) -> None:
    for name, data in golden.files().items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(data)


@pytest.mark.parametrize(
    ("items", "modality"),
    [
        (["a", "b\n\0 ä 😀", ("a", "pair")], Modality.TEXT),
        ([b"\xff\xd8 bytes", b"", b"\0"], Modality.IMAGE),
    ],
)
def test_a_set_survives_the_disk(items: Sequence[RawItem], modality: Modality, tmp_path: Path) -> None:
    scores_VC = [[0.25, 0.75], [1.0, 0.0], [0.123456789, 0.876543211]]
    golden = GoldenSet(items=items, scores_VC=scores_VC, features_VD=torch.zeros(3, 2))
    write(golden, tmp_path)
    found = GoldenSet.read(tmp_path, modality)
    assert found.items == items
    for row, wanted in zip(found.scores_VC, golden.scores_VC, strict=True):
        assert row == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    "expected",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        '{"scores": [[1]]}',
        '{"scores": 3}',
        '{"scores": [], "texts": []}',
        '{"texts": ["a"]}',
    ],
)
def test_a_damaged_set_is_refused(expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    if expected is not None:
        (tmp_path / "golden" / "expected.json").write_text(expected)
    for modality in Modality:
        with pytest.raises(VersionCorrupt, match="golden inputs are missing or damaged"):
            GoldenSet.read(tmp_path, modality)


FEATURES_ND = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, 1e-30]])
TWO = GoldenSet(items=["a", "b"], scores_VC=[[1.0], [1.0]], features_VD=FEATURES_ND)


def test_features_survive_the_disk_bit_by_bit(tmp_path: Path) -> None:
    write(TWO, tmp_path)
    assert torch.equal(GoldenSet.read(tmp_path, Modality.TEXT).features_VD, FEATURES_ND)


def test_every_precision_has_a_set_of_its_own(tmp_path: Path) -> None:
    write(TWO, tmp_path)
    other = GoldenSet(items=["a"], scores_VC=[[0.5, 0.5]], features_VD=-FEATURES_ND[:1], precision=Precision.INT8)
    write(other, tmp_path)
    assert len(GoldenSet.read(tmp_path, Modality.TEXT).items) == 2
    found = GoldenSet.read(tmp_path, Modality.TEXT, Precision.INT8)
    assert (found.items, found.scores_VC, found.precision) == (["a"], [[0.5, 0.5]], Precision.INT8)
    assert torch.equal(found.features_VD, -FEATURES_ND[:1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no safetensors",
        save({"other": FEATURES_ND}),
        save({"features": FEATURES_ND[:1]}),
        save({"features": FEATURES_ND[0]}),
        save({"features": FEATURES_ND.double()}),
    ],
    ids=["empty", "garbage", "name", "count", "shape", "type"],
)
def test_damaged_features_are_refused(data: bytes, tmp_path: Path) -> None:
    write(TWO, tmp_path)
    (tmp_path / "golden" / "features.safetensors").write_bytes(data)
    with pytest.raises(VersionCorrupt, match="golden inputs are missing or damaged"):
        GoldenSet.read(tmp_path, Modality.TEXT)


def test_features_of_another_width_than_the_head_are_refused() -> None:
    narrow = Head(weight_CD=torch.ones(1, 2), bias_C=torch.zeros(1))
    with pytest.raises(VersionCorrupt, match="do not fit the head"):
        TWO.check_head(SimpleNamespace(head=narrow))  # type: ignore[arg-type]


HEAD = Head(weight_CD=torch.ones(2, 3), bias_C=torch.zeros(2))


def golden_set(precision: Precision, scores: list[list[float]] | None = None) -> GoldenSet:
    return GoldenSet(items=["a"], scores_VC=scores or [[0.25, 0.75]], features_VD=FEATURES_ND[:1], precision=precision)


def predictor(scores: list[list[float]], *, off: float = 0.0, kept: list[list[float]] | None = None) -> Any:
    """Answers the same whatever it is asked.

    Args:
        scores: for the features that it computes, which are off by this share of their length.
        kept: for the features that were kept; the right ones without.
    """
    features_ND = FEATURES_ND[:1] * (1 + off)

    def answer(features: torch.Tensor) -> torch.Tensor:
        return torch.tensor(scores if features is features_ND else kept or [[0.25, 0.75]], dtype=torch.float64)

    return SimpleNamespace(task=Task.SINGLE_LABEL, head=HEAD, features=lambda items: features_ND, scores=answer)


@pytest.mark.parametrize("precision", Precision)
def test_answers_within_the_tolerance_pass(precision: Precision) -> None:
    by = 0.9 * SCORE_TOLERANCE[precision]
    off = 0.9 * FEATURE_TOLERANCE[precision]
    golden_set(precision).check(predictor([[0.25 + by, 0.75 - by]], off=off))


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda by: [[0.25 + by, 0.75 - by]],
        lambda by: [[0.75, 0.25]],
        lambda by: [[0.25, 0.75, 0.0]],
        lambda by: [[1.0]],
        lambda by: [[float("nan"), 0.75]],
        lambda by: [[0.25, float("nan")]],
    ],
    ids=["off", "swapped", "more", "fewer", "NaN first", "NaN last"],
)
def test_other_answers_are_refused(wrong: Callable[[float], list[list[float]]], precision: Precision) -> None:
    scores = wrong(1.1 * SCORE_TOLERANCE[precision])
    for answers in (predictor(scores), predictor([[0.25, 0.75]], kept=scores)):
        with pytest.raises(VersionCorrupt, match="other answers than at publishing"):
            golden_set(precision).check(answers)


@pytest.mark.parametrize("precision", Precision)
def test_other_features_are_refused_though_the_answers_are_right(precision: Precision) -> None:
    for off in (1.1 * FEATURE_TOLERANCE[precision], -2.0, float("nan")):
        with pytest.raises(VersionCorrupt, match="other features than at publishing"):
            golden_set(precision).check(predictor([[0.25, 0.75]], off=off))


def test_answers_that_were_never_numbers_are_refused() -> None:
    """A model that gives NaN must not publish itself."""
    nan = json.loads("[[NaN, NaN]]")
    with pytest.raises(VersionCorrupt):
        golden_set(Precision.FP32, nan).check(predictor(nan, kept=nan))


def value_head(weight: float, bias: float) -> Head:
    return Head(weight_CD=torch.full((1, 3), weight), bias_C=torch.tensor([bias]), activation="identity")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_a_value_may_be_off_by_what_it_is_large(scale: float, bias: float) -> None:
    """How far it can move is a matter of its weights and features, and not of where zero is."""
    head = value_head(scale, bias * scale * 1000)
    right = float(head.weight_CD[0] @ FEATURES_ND[0] + head.bias_C)
    reach = float(head.weight_CD.norm() * FEATURES_ND[0].norm())
    for share, is_right in ((0.9, True), (-0.9, True), (1.1, False), (-1.1, False)):
        found = right + share * SCORE_TOLERANCE[Precision.FP32] * reach
        answers = predictor([[found]], kept=[[right]])
        answers.head = head
        golden = golden_set(Precision.FP32, [[right]])
        if is_right:
            golden.check(answers)
        else:
            with pytest.raises(VersionCorrupt, match="other answers"):
                golden.check(answers)


def test_small_and_large_values_survive_the_disk(tmp_path: Path) -> None:
    scores = [[1.23456789e-12], [-9.87654321e15]]
    write(replace(TWO, scores_VC=scores), tmp_path)
    assert GoldenSet.read(tmp_path, Modality.TEXT).scores_VC == scores


def test_a_text_may_have_several_vectors(tmp_path: Path) -> None:
    three = GoldenSet(items=["a b", "c"], scores_VC=[[1.0]] * 3, features_VD=torch.ones(3, 2))
    write(three, tmp_path)
    found = GoldenSet.read(tmp_path, Modality.TEXT)
    assert (found.items, found.scores_VC) == (["a b", "c"], [[1.0]] * 3)
    head = Head(weight_CD=torch.ones(1, 2), bias_C=torch.zeros(1))
    fewer = SimpleNamespace(
        task=Task.TOKEN_CLASSIFICATION,
        head=head,
        features=lambda items: torch.ones(2, 2),
        scores=lambda features: torch.ones(len(features), 1, dtype=torch.float64),
    )
    with pytest.raises(VersionCorrupt, match="read in another way"):
        found.check(fewer)  # type: ignore[arg-type]
