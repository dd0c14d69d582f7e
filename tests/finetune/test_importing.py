from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune.importing import LEAST_COSINE, import_checkpoint
from models.backbone_store import StoredBackbone
from models.errors import InvalidParameter
from models.features import FeatureKind
from models.golden import GoldenSet
from models.precision import Precision
from models.preprocessor import build_preprocessor
from models.repository import ModelRepository
from models.task import Task
from models.version import ModelVersion
from tests.tiny_models import FINE, USELESS, NoGraph, TorchEngines, TwoPrecisions


def test_a_checkpoints_own_classifier_becomes_a_version(tmp_path: Path, tiny_vision: str) -> None:
    repository = ModelRepository(tmp_path)
    version = import_checkpoint(repository, tiny_vision, "colours", TorchEngines())
    assert version.manifest.labels == ("red", "green", "blue")
    assert version.manifest.reference.training is None
    repository.verify(version)
    assert "colours" in (version.directory / "README.md").read_text()


def test_two_models_on_one_backbone_store_it_once(tmp_path: Path, tiny_vision: str) -> None:
    repository = ModelRepository(tmp_path)
    first = import_checkpoint(repository, tiny_vision, "one", TorchEngines())
    second = import_checkpoint(repository, tiny_vision, "two", TorchEngines())
    assert first.manifest.backbone == second.manifest.backbone
    assert len(repository.backbones.list()) == 1


def embeddings(version: ModelVersion, stored: StoredBackbone, precision: Precision) -> torch.Tensor:
    """What its backbone makes of its golden inputs."""
    golden = GoldenSet.read(version.directory, version.manifest.modality, precision)
    preprocessor = build_preprocessor(version.manifest.preprocessor, stored.directory)
    batch = preprocessor.collate([preprocessor.prepare(item, truncate=True) for item in golden.items])
    return TwoPrecisions(FINE).build(stored, precision).features(batch, FeatureKind.POOLED).values


@pytest.mark.parametrize("checkpoint", ["tiny_text", "tiny_vision"])
def test_what_has_no_classifier_or_shall_have_none_becomes_an_embedding(
    tmp_path: Path, checkpoint: str, request: pytest.FixtureRequest
) -> None:
    repository, reads = ModelRepository(tmp_path), checkpoint == "tiny_vision"
    version = import_checkpoint(
        repository, request.getfixturevalue(checkpoint), "vectors", TwoPrecisions(FINE), embedding=reads
    )
    manifest = version.manifest
    repository.verify(version)
    assert (manifest.task, manifest.labels, manifest.reference.training) == (Task.EMBEDDING, (), None)
    assert not list(version.directory.rglob("head*"))
    stored = repository.backbones.get(manifest.backbone.digest)
    for precision in Precision:
        golden = GoldenSet.read(version.directory, manifest.modality, precision)
        assert torch.equal(golden.features_VD, embeddings(version, stored, precision))
        assert len(golden.features_VD) > 1
        assert [list(scores) for scores in golden.scores_VC] == [[]] * len(golden.items)


def test_a_backbone_without_a_linear_classifier_is_no_error(tmp_path: Path, tiny_text: str) -> None:
    version = import_checkpoint(ModelRepository(tmp_path), tiny_text, "vectors", TorchEngines())
    card = (version.directory / "README.md").read_text()
    assert "an embedding of 16 numbers" in card
    assert "pipeline_tag: feature-extraction" in card
    assert "None" not in card


def test_an_embedding_serves_in_int8_if_it_points_where_that_of_fp32_does(tmp_path: Path, tiny_text: str) -> None:
    repository = ModelRepository(tmp_path)
    record = import_checkpoint(repository, tiny_text, "fine", TwoPrecisions(FINE)).manifest.heads[Precision.INT8]
    assert (record.refused, record.agreement) == (None, pytest.approx(1, abs=1e-4))

    for step in (0.7, USELESS):  # the last one gives zeros
        version = import_checkpoint(repository, tiny_text, "coarse", TwoPrecisions(step))
        record = version.manifest.heads[Precision.INT8]
        assert record.agreement is not None
        assert record.agreement < LEAST_COSINE
        assert record.refused is not None
        assert f"{record.agreement:.3f}" in record.refused
        assert not list(version.directory.rglob("*int8*"))
        assert record.refused in (version.directory / "README.md").read_text()


def test_an_embedding_that_is_no_number_in_int8_does_not_serve_there(tmp_path: Path, tiny_text: str) -> None:
    engines = TwoPrecisions(float("nan"))
    record = import_checkpoint(ModelRepository(tmp_path), tiny_text, "x", engines).manifest.heads[Precision.INT8]
    assert record.agreement == 0
    assert record.refused is not None


def test_a_bad_name_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter):
        import_checkpoint(ModelRepository(tmp_path), "timm:no_such_model", "../x", TorchEngines())


def test_a_classifier_serves_in_int8_if_it_gives_the_same_labels(tmp_path: Path, tiny_vision: str) -> None:
    repository = ModelRepository(tmp_path)
    record = import_checkpoint(repository, tiny_vision, "fine", TwoPrecisions(FINE)).manifest.heads[Precision.INT8]
    assert record.refused is None
    assert record.agreement is not None
    assert record.agreement >= 0.99

    version = import_checkpoint(repository, tiny_vision, "useless", TwoPrecisions(USELESS))
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
    version = import_checkpoint(ModelRepository(tmp_path), tiny_vision, "colours", NoGraph(FINE))
    assert set(version.manifest.heads) == {Precision.FP32}
    assert "Unable to read the model" in caplog.text
