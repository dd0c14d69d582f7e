"""What the tests of `finetune` share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.finetune.extractor import Extractor, extractor


@pytest.fixture
def vision(tiny_vision: str, tmp_path: Path) -> Extractor:
    return extractor(tiny_vision, tmp_path / "backbones")


@pytest.fixture
def text(tiny_text: str, tmp_path: Path) -> Extractor:
    return extractor(tiny_text, tmp_path / "backbones")
