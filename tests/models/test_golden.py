"""Golden inputs: kept with a version, and compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save

from models.backbone import Modality
from models.errors import VersionCorrupt
from models.golden import TOLERANCE, GoldenSet
from models.head import Head
from models.preprocessor import RawItem


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
    golden = GoldenSet(items=items, scores_NC=[[0.25, 0.75], [1.0, 0.0], [0.123456789, 0.876543211]])
    write(golden, tmp_path)
    found = GoldenSet.read(tmp_path, modality)
    assert found.items == items
    for row, wanted in zip(found.scores_NC, golden.scores_NC, strict=True):
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
TWO = GoldenSet(items=["a", "b"], scores_NC=[[1.0], [1.0]], features_ND=FEATURES_ND)


def test_features_survive_the_disk_bit_by_bit(tmp_path: Path) -> None:
    write(TWO, tmp_path)
    found = GoldenSet.read(tmp_path, Modality.TEXT).features_ND
    assert found is not None
    assert torch.equal(found, FEATURES_ND)
    (tmp_path / "golden" / "features.safetensors").unlink()  # as versions were published once
    assert GoldenSet.read(tmp_path, Modality.TEXT).features_ND is None


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


def predictor(scores: list[list[float]]) -> Any:
    """Answers the same whatever it is asked."""
    return SimpleNamespace(predict=lambda items: torch.tensor(scores, dtype=torch.float64))


def test_answers_within_the_tolerance_pass() -> None:
    GoldenSet(items=["a"], scores_NC=[[0.25, 0.75]]).check(
        predictor([[0.25 + 0.9 * TOLERANCE, 0.75 - 0.9 * TOLERANCE]])
    )


@pytest.mark.parametrize(
    "scores",
    [
        [[0.25 + 1.1 * TOLERANCE, 0.75 - 1.1 * TOLERANCE]],
        [[0.75, 0.25]],
        [[0.25, 0.75, 0.0]],
        [[1.0]],
        [[float("nan"), 0.75]],
        [[0.25, float("nan")]],
    ],
)
def test_other_answers_are_refused(scores: list[list[float]]) -> None:
    with pytest.raises(VersionCorrupt, match="other answers than at publishing"):
        GoldenSet(items=["a"], scores_NC=[[0.25, 0.75]]).check(predictor(scores))


def test_answers_that_were_never_numbers_are_refused() -> None:
    """A model that gives NaN must not publish itself."""
    golden = GoldenSet(items=["a"], scores_NC=json.loads("[[NaN, NaN]]"))
    with pytest.raises(VersionCorrupt):
        golden.check(predictor([[float("nan"), float("nan")]]))
