"""What versions and backbones take of the disk."""

from __future__ import annotations

import pytest

from models.listing import Listing
from models.repository import ModelRepository
from tests.models.versions import BACKBONE, BACKBONE_FILES, parse, place_backbone, publish


def lines(repository: ModelRepository, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    Listing.of(repository).print()
    return [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def filled(repository: ModelRepository) -> ModelRepository:
    """Three versions of 28 bytes, on a backbone of 2 kB; another of 500 bytes without any."""
    publish(repository)
    publish(repository)
    publish(repository, "dogs")
    rest = 2000 - len(BACKBONE_FILES["config.json"])
    (place_backbone(repository, BACKBONE) / "model.safetensors").write_bytes(bytes(rest))
    (place_backbone(repository, "f" * 64) / "model.safetensors").write_bytes(bytes(500))
    return repository


def test_a_backbone_shows_its_size_once(filled: ModelRepository, capsys: pytest.CaptureFixture[str]) -> None:
    head, _, *found = lines(filled, capsys)
    assert " ".join(head) == "model aliases labels accuracy size backbone its size created"
    assert [line[4:7] == ["dir:x", "2", "kB"] for line in found[:3]] == [True, False, False]


def test_totals_stand_below_with_what_can_be_freed(filled: ModelRepository, capsys: pytest.CaptureFixture[str]) -> None:
    versions = sum(version["size_bytes"] for version in Listing.of(filled).versions)
    assert Listing.of(filled).disk == {
        "versions_bytes": versions,
        "backbones_bytes": 2500,
        "unreferenced_bytes": 500,
    }
    said = " ".join(lines(filled, capsys)[-1])
    assert said == f"{versions} B of versions, 2 kB of backbones; 500 B belong to no version: graftwork models gc"
    (filled.backbones.root / ("f" * 64) / "model.safetensors").unlink()
    assert " ".join(lines(filled, capsys)[-1]) == f"{versions} B of versions, 2 kB of backbones"


def test_what_a_damaged_version_may_need_is_not_called_free(filled: ModelRepository) -> None:
    (filled.root / "dogs" / "1" / "manifest.json").write_bytes(b"{")
    listing = Listing.of(filled)
    assert listing.disk["unreferenced_bytes"] == 0
    assert listing.versions[0]["size_bytes"] is None
    filled.delete(parse("dogs:1"))
    assert Listing.of(filled).disk["unreferenced_bytes"] == 500


def test_a_backbone_that_is_gone_is_said_to_be_missing(
    filled: ModelRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    (filled.backbones.root / BACKBONE).rename(filled.root / "elsewhere")
    assert Listing.of(filled).versions[0]["backbone_size_bytes"] is None
    assert "missing" in lines(filled, capsys)[2]
