"""What the tests of `models` share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models import engine_choice
from models.backbone_store import BackboneStore, StoredBackbone
from models.repository import ModelRepository
from models.sources import fetch_checkpoint


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk: whether it was waited for cannot be seen from a test, and it may take long."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "repository")


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> StoredBackbone:
    """The tiny text encoder in a store, for tests that leave it as it is; files of tests may have others."""
    return BackboneStore(tmp_path_factory.mktemp("backbones")).add(fetch_checkpoint(tiny_text))


@pytest.fixture
def quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines are not compared for long."""
    monkeypatch.setattr(engine_choice, "ROUND_SECONDS", 0.02)
