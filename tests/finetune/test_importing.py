from __future__ import annotations

from pathlib import Path

import pytest

from finetune.importing import import_classifier
from models.errors import BackboneNotFound, InvalidParameter
from models.precision import Precision
from models.repository import ModelRepository
from tests.tiny_models import FINE, USELESS, NoGraph, TorchEngines, TwoPrecisions


def test_a_checkpoints_own_classifier_becomes_a_version(tmp_path: Path, tiny_vision: str) -> None:
    repository = ModelRepository(tmp_path)
    version = import_classifier(repository, tiny_vision, "colours", TorchEngines())
    assert version.manifest.labels == ("red", "green", "blue")
    assert version.manifest.reference.training is None
    repository.verify(version)
    assert "colours" in (version.directory / "README.md").read_text()


def test_two_models_on_one_backbone_store_it_once(tmp_path: Path, tiny_vision: str) -> None:
    repository = ModelRepository(tmp_path)
    first = import_classifier(repository, tiny_vision, "one", TorchEngines())
    second = import_classifier(repository, tiny_vision, "two", TorchEngines())
    assert first.manifest.backbone == second.manifest.backbone
    assert len(repository.backbones.list()) == 1


def test_a_backbone_without_a_classifier_is_refused(tmp_path: Path, tiny_text: str) -> None:
    with pytest.raises(BackboneNotFound, match="no linear classifier"):
        import_classifier(ModelRepository(tmp_path), tiny_text, "x", TorchEngines())


def test_a_bad_name_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter):
        import_classifier(ModelRepository(tmp_path), "timm:no_such_model", "../x", TorchEngines())


def test_a_classifier_serves_in_int8_if_it_gives_the_same_labels(tmp_path: Path, tiny_vision: str) -> None:
    repository = ModelRepository(tmp_path)
    record = import_classifier(repository, tiny_vision, "fine", TwoPrecisions(FINE)).manifest.heads[Precision.INT8]
    assert record.refused is None
    assert record.agreement is not None
    assert record.agreement >= 0.99

    version = import_classifier(repository, tiny_vision, "useless", TwoPrecisions(USELESS))
    record = version.manifest.heads[Precision.INT8]
    assert record.agreement is not None
    assert record.agreement < 0.99
    assert record.refused is not None
    assert f"{record.agreement:.1%}" in record.refused
    assert not list(version.directory.rglob("*int8*"))  # what never serves is not kept
    assert record.refused in (version.directory / "README.md").read_text()


def test_int8_that_does_not_run_here_is_left_out(
    tmp_path: Path, tiny_vision: str, caplog: pytest.LogCaptureFixture
) -> None:
    version = import_classifier(ModelRepository(tmp_path), tiny_vision, "colours", NoGraph(FINE))
    assert set(version.manifest.heads) == {Precision.FP32}
    assert "Unable to read the model" in caplog.text
