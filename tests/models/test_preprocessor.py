"""What both preprocessors share."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

from models import preprocessor
from models.preprocessor import (
    ImagePreprocessorConfig,
    TextPreprocessorConfig,
    build_preprocessor,
    preprocessing_identity,
)
from models.sources import fetch_checkpoint
from tests.models.pictures import encode, picture


def test_a_config_builds_its_preprocessor_and_survives_json(tiny_text: str, tiny_vision: str, tmp_path: Path) -> None:
    for name in (tiny_vision, tiny_text):
        checkpoint = fetch_checkpoint(name)
        config = type(checkpoint.preprocessor).model_validate_json(checkpoint.preprocessor.model_dump_json())
        assert config == checkpoint.preprocessor
        if checkpoint.tokenizer_json is not None:
            shutil.copy(Path(name.removeprefix("dir:")) / "tokenizer.json", tmp_path)
        item = "abc" if checkpoint.tokenizer_json else encode(picture(), "JPEG")
        assert build_preprocessor(config, tmp_path).prepare(item)


IMAGES = ImagePreprocessorConfig(input_size=(3, 64, 64), interpolation="bicubic", crop_pct=0.9, crop_mode="center")
TEXTS = TextPreprocessorConfig(max_tokens=16)


def test_an_identity_names_settings_steps_and_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts = preprocessing_identity(IMAGES), preprocessing_identity(TEXTS)
    assert {f"{library}-{version(library)}" for library in ("pillow", "timm", "torch")} <= set(images.split("\n"))
    assert f"tokenizers-{version('tokenizers')}" in texts.split("\n")
    assert preprocessing_identity(IMAGES.model_copy(update={"crop_pct": 1.0})) != images
    monkeypatch.setattr(preprocessor, "PREPROCESSING", preprocessor.PREPROCESSING + 1)
    assert preprocessing_identity(IMAGES) != images
    assert preprocessing_identity(TEXTS) != texts
