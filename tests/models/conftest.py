"""What the tests of `models` share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk: whether it was waited for cannot be seen from a test, and it may take long."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
