"""Which precision a version is served in, and why not in another."""

from __future__ import annotations

import pytest
import torch

from models.backbone_store import StoredBackbone
from models.engine import Engine
from models.features import FeatureKind
from models.precision import Precision
from models.predictor import read_head
from models.repository import ModelRepository
from service.worker.registry import Registry
from tests.tiny_models import FINE, LETTERS, CoarseEngine, NoGraph, TorchEngines, TwoPrecisions, publish_texts


@pytest.fixture
def two_precisions(texts_on_disk: ModelRepository, tiny_text: str) -> ModelRepository:
    """With ``letters:2``, which has a head for int8 too."""
    publish_texts(texts_on_disk, tiny_text, "letters", LETTERS, seed=3, engines=TwoPrecisions(FINE))
    return texts_on_disk


def test_a_version_is_served_in_the_precision_that_is_preferred_here(two_precisions: ModelRepository) -> None:
    registry = Registry(two_precisions, TwoPrecisions(FINE))
    version = registry.load("letters", 2)
    assert (version.serving.precision, version.serving.engine) == ("int8", "coarse/cpu/int8")
    head = read_head(two_precisions.read("letters", 2).directory, version.manifest, Precision.INT8)
    assert torch.equal(version.predictor.head.weight_CD, head.weight_CD)

    other = registry.load("letters", 1)  # it has no head for int8
    assert other.serving.precision == "fp32"
    assert other.backbone == version.backbone
    assert other.prepare(b"a", truncate=False)[1] != version.prepare(b"a", truncate=False)[1]

    assert Registry(two_precisions, TorchEngines()).load("letters", 2).serving.precision == "fp32"


def test_a_refused_precision_does_not_serve_and_it_is_said(two_precisions: ModelRepository) -> None:
    version = two_precisions.read("letters", 2)
    heads = version.manifest.heads
    refused = heads[Precision.INT8].model_copy(update={"refused": "it loses too much"})
    manifest = version.manifest.model_copy(update={"heads": {**heads, Precision.INT8: refused}})
    (version.directory / "manifest.json").write_text(manifest.model_dump_json())
    serving = Registry(two_precisions, TwoPrecisions(FINE)).load("letters", 2).serving
    assert serving.precision == "fp32"
    assert "not in int8: it loses too much" in serving.reason


def test_int8_that_does_not_run_here_gives_way_to_fp32(
    two_precisions: ModelRepository, caplog: pytest.LogCaptureFixture
) -> None:
    serving = Registry(two_precisions, NoGraph(FINE)).load("letters", 2).serving
    assert serving.precision == "fp32"
    assert "not in int8: it does not run here" in serving.reason
    assert "Unable to read the model" in caplog.text


def test_int8_of_another_graph_is_found_out_though_a_version_of_this_one_was_loaded_before(
    two_precisions: ModelRepository, tiny_text: str
) -> None:
    """Copied from a machine whose graph was calibrated otherwise, say: its identity says so."""

    class Elsewhere(TwoPrecisions):
        def build(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> Engine:
            engine = super().build(stored, precision, kind)
            if isinstance(engine, CoarseEngine):
                engine.identity = "coarse/cpu/int8/elsewhere"
            return engine

    publish_texts(two_precisions, tiny_text, "letters", LETTERS, seed=3, engines=Elsewhere(0.3))
    registry = Registry(two_precisions, TwoPrecisions(FINE))
    assert registry.load("letters", 2).serving.precision == "int8"
    serving = registry.load("letters", 3).serving
    assert serving.precision == "fp32"
    assert "not in int8: the golden inputs get other features" in serving.reason


def test_int8_that_computes_otherwise_here_gives_way_to_fp32(
    two_precisions: ModelRepository, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a processor that multiplies 8-bit numbers in another way than the one that the head was fitted on."""
    registry = Registry(two_precisions, TwoPrecisions(0.3))
    version = registry.load("letters", 2)
    assert version.serving.precision == "fp32"
    assert "not in int8: the golden inputs get other features" in version.serving.reason
    assert "letters:2 is not served in int8" in caplog.text
    assert torch.equal(
        version.predictor.predict(["a"]),
        Registry(two_precisions, TorchEngines()).load("letters", 2).predictor.predict(["a"]),
    )
