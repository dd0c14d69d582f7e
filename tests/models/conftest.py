"""What the tests of `models` share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.repository import ModelRepository


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk: whether it was waited for cannot be seen from a test, and it may take long."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "repository")
