"""Of engines beside each other the fastest is taken that gives what torch gives."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from models import engine_factory as factory_module
from models.backbone_store import StoredBackbone
from models.engine import blank_batch
from models.engine_factory import EngineFactory
from models.errors import InvalidParameter
from models.features import FeatureKind
from models.openvino_engine import OpenVinoEngine
from models.precision import Precision
from models.torch_engine import TorchEngine
from tests.models.pretended_engines import Broken, Careless, Constant, Crooked, NotNumbers, pretend

pytestmark = pytest.mark.usefixtures("quick_rounds")


def test_the_fastest_is_taken_and_it_is_said_why(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for fastest, other, engine in [("torch", "openvino", TorchEngine), ("openvino", "torch", OpenVinoEngine)]:
        pretend(monkeypatch, **{fastest: 200.0, other: 100.0})
        factory = EngineFactory("cpu", threads=2, cache_dir=tmp_path / fastest)
        assert isinstance(factory.build(stored), engine)
        choice = factory.choice(stored)
        assert choice.engine == fastest
        assert "200 rows/s" in choice.reason
        assert "100 rows/s" in choice.reason
        assert choice.reason in caplog.text


def test_a_single_engine_is_compared_with_torch_too(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory_module, "OpenVinoEngine", Crooked)
    with pytest.raises(InvalidParameter, match=r"off by 0\.01"):
        EngineFactory("cpu", threads=1, cache_dir=tmp_path, wanted="openvino").build(stored)


@pytest.mark.parametrize("engine", [NotNumbers, Constant])
def test_eight_bits_that_have_nothing_to_do_with_the_backbone_are_refused(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: type[OpenVinoEngine]
) -> None:
    monkeypatch.setattr(factory_module, "OpenVinoEngine", engine)
    with pytest.raises(InvalidParameter, match="its features are off"):
        EngineFactory("cpu", threads=1, cache_dir=tmp_path).build(stored, Precision.INT8)


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        (Crooked, "its features are off by 0.01"),
        (NotNumbers, "its features are off by nan"),
        (Broken, "it does not run there"),
    ],
)
def test_an_engine_that_is_not_right_is_not_taken(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: type[OpenVinoEngine], why: str
) -> None:
    monkeypatch.setattr(factory_module, "OpenVinoEngine", engine)
    pretend(monkeypatch, torch=1.0, openvino=1000.0)
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path)
    assert isinstance(factory.build(stored), TorchEngine)
    assert why in factory.choice(stored).reason


@pytest.mark.parametrize(("engine", "is_right"), [(OpenVinoEngine, True), (Crooked, False), (Careless, True)])
def test_engines_are_compared_by_the_features_that_are_asked_for(
    stored: StoredBackbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: type[OpenVinoEngine],
    is_right: bool,
) -> None:
    monkeypatch.setattr(factory_module, "OpenVinoEngine", engine)
    pretend(monkeypatch, torch=1.0, openvino=1000.0)
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path)
    built = factory.build(stored, kind=FeatureKind.TOKENS)
    assert isinstance(built, engine if is_right else TorchEngine)
    features = built.features(blank_batch(stored.config), FeatureKind.TOKENS)
    assert features.values.shape == (1, 8, stored.config.feature_dim)
    assert len(list((tmp_path / "engines").rglob("*-tokens-*.json"))) == 1
    assert ("off by 0.01" in factory.reason(stored, kind=FeatureKind.TOKENS)) is not is_right


def test_an_architecture_that_cannot_be_exported_runs_on_torch(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("it holds for batches of one size only")

    monkeypatch.setattr("models.graph.export_graph", fail)
    factory = EngineFactory("cpu", threads=2, cache_dir=tmp_path)
    assert isinstance(factory.build(stored), TorchEngine)
    assert "openvino, 1 at a time: it does not run there" in factory.reason(stored)
    assert "batches of one size only" in caplog.text
    for threads in (1, 2):
        insisting = EngineFactory("cpu", threads=threads, cache_dir=tmp_path, wanted="openvino")
        with pytest.raises(InvalidParameter, match=r"it does not run there.*; use --engine torch"):
            insisting.build(stored)
