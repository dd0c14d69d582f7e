from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import engine_choice as choice_module
from models.backbone_store import BackboneStore, StoredBackbone
from models.batch import Batch
from models.batch_cost import UNMEASURED
from models.engine import blank_batch
from models.engine_choice import EngineChoice, EngineFactory
from models.errors import InvalidParameter
from models.features import FeatureKind, Features
from models.openvino_engine import OpenVinoEngine
from models.options import EngineName, PrecisionName
from models.precision import Precision
from models.sources import fetch_checkpoint
from models.torch_engine import TorchEngine


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> StoredBackbone:
    return BackboneStore(tmp_path_factory.mktemp("backbones")).add(fetch_checkpoint(tiny_text))


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice_module, "ROUND_SECONDS", 0.02)


def pretend(monkeypatch: pytest.MonkeyPatch, **rates: float) -> None:
    """Each engine, however it is run, has a rate."""
    monkeypatch.setattr(
        choice_module, "_rates", lambda engines, batches, kind: {each: rates[each.engine] for each in engines}
    )


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


def test_a_choice_is_kept(stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = EngineFactory("cpu", threads=2, cache_dir=tmp_path).choice(stored)
    assert set(first.rates) == {"torch, 1 at a time", "openvino, 1 at a time", "openvino, 2 at a time"}
    assert all(rate > 0 for rate in first.rates.values())
    monkeypatch.setattr(EngineFactory, "_compare", lambda *_: pytest.fail("it was found out before"))
    assert EngineFactory("cpu", threads=2, cache_dir=tmp_path).choice(stored) == first


def test_a_damaged_choice_is_made_again(stored: StoredBackbone, tmp_path: Path) -> None:
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path)
    factory.choice(stored)
    (file,) = (tmp_path / "engines").rglob("*.json")
    for damage in (b"", b"{}", b'{"engine":"abacus","streams":1,"reason":""}'):
        file.write_bytes(damage)
        assert isinstance(factory.choice(stored), EngineChoice)


def test_without_a_cache_torch_serves(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()  # no directory can be made below it, not even by root
    pretend(monkeypatch, torch=1.0, openvino=1000.0)
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path / "file")
    assert isinstance(factory.build(stored), TorchEngine)
    assert "cannot be kept" in caplog.text


class Crooked(OpenVinoEngine):
    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        features = super().features(batch, kind)
        return replace(features, values=features.values * 1.01)


class NotNumbers(OpenVinoEngine):
    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        features = super().features(batch, kind)
        return replace(features, values=features.values * float("nan"))


class Careless(OpenVinoEngine):
    """Only what it makes of padding is wrong."""

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        features = super().features(batch, kind)
        if features.mask_BT is None:
            return features
        return replace(features, values=features.values.masked_fill(features.mask_BT[:, :, None] == 0, torch.nan))


class Broken(OpenVinoEngine):
    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        raise RuntimeError("an operation that it does not know")


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
    monkeypatch.setattr(choice_module, "OpenVinoEngine", engine)
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
    monkeypatch.setattr(choice_module, "OpenVinoEngine", engine)
    pretend(monkeypatch, torch=1.0, openvino=1000.0)
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path)
    built = factory.build(stored, kind=FeatureKind.TOKENS)
    assert isinstance(built, engine if is_right else TorchEngine)
    features = built.features(blank_batch(stored.config), FeatureKind.TOKENS)
    assert features.values.shape == (1, 8, stored.config.feature_dim)
    assert len(list((tmp_path / "engines").rglob("*tokens*.json"))) == 1
    assert ("off by 0.01" in factory.reason(stored, kind=FeatureKind.TOKENS)) is not is_right


def test_an_engine_that_was_asked_for_is_taken_or_refused(stored: StoredBackbone, tmp_path: Path) -> None:
    torch_only = EngineFactory("cpu", threads=1, cache_dir=tmp_path, wanted="torch")
    assert isinstance(torch_only.build(stored), TorchEngine)
    with pytest.raises(InvalidParameter, match="--engine auto"):
        torch_only.build(stored, Precision.INT8)
    with pytest.raises(InvalidParameter, match="int8"):  # rather than an engine of another precision
        EngineFactory("cuda:0", threads=1, cache_dir=tmp_path).choice(stored, Precision.INT8)
    with pytest.raises(InvalidParameter, match="CPU"):
        EngineFactory("cuda:0", threads=1, cache_dir=tmp_path, wanted="openvino")


def test_eight_bits_have_engines_of_their_own(stored: StoredBackbone, tmp_path: Path) -> None:
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path)
    assert factory.build(stored, Precision.INT8).identity.endswith("int8")
    assert factory.build(stored).identity.endswith("fp32")
    assert torch.get_num_threads() >= 1


def preferred(
    factory: EngineFactory, stored: StoredBackbone, monkeypatch: pytest.MonkeyPatch, **rates: float
) -> Sequence[Precision]:
    """With these rates of the fastest engine in each precision."""

    def choice(self: EngineFactory, stored: StoredBackbone, precision: Precision, kind: FeatureKind) -> EngineChoice:
        return EngineChoice(
            engine="openvino", streams=1, reason="", rates={"slow": 1.0, "fast": rates[precision]}, cost=UNMEASURED
        )

    monkeypatch.setattr(EngineFactory, "choice", choice)
    return factory.precisions(stored)


def test_int8_is_preferred_where_it_is_faster(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = EngineFactory("cpu", threads=2, cache_dir=tmp_path)
    assert preferred(factory, stored, monkeypatch, fp32=100.0, int8=300.0) == (Precision.INT8, Precision.FP32)
    assert preferred(factory, stored, monkeypatch, fp32=100.0, int8=105.0) == (Precision.FP32,)
    assert preferred(factory, stored, monkeypatch, fp32=100.0, int8=20.0) == (Precision.FP32,)


def test_the_precision_that_was_asked_for_is_preferred_and_fp32_is_always_there(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {"fp32": 100.0, "int8": 20.0}
    int8 = EngineFactory("cpu", threads=2, cache_dir=tmp_path, precision="int8")
    assert preferred(int8, stored, monkeypatch, **rates) == (Precision.INT8, Precision.FP32)
    fp32 = EngineFactory("cpu", threads=2, cache_dir=tmp_path, precision="fp32")
    assert preferred(fp32, stored, monkeypatch, fp32=1.0, int8=300.0) == (Precision.FP32,)
    torch_only = EngineFactory("cpu", threads=2, cache_dir=tmp_path, wanted="torch")
    assert preferred(torch_only, stored, monkeypatch, fp32=1.0, int8=300.0) == (Precision.FP32,)
    assert preferred(EngineFactory("cuda:0", threads=2, cache_dir=tmp_path), stored, monkeypatch) == (Precision.FP32,)


@pytest.mark.parametrize(("device", "wanted"), [("cuda:0", "auto"), ("cpu", "torch")])
def test_int8_that_cannot_be_had_is_refused_at_once(device: str, wanted: EngineName, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="int8"):
        EngineFactory(device, threads=2, cache_dir=tmp_path, wanted=wanted, precision="int8")


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_a_backbone_that_cannot_be_quantized_is_served_in_fp32(
    stored: StoredBackbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    precision: PrecisionName,
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("unknown operation")

    monkeypatch.setattr("models.graph.quantize_graph", fail)
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path, wanted="openvino", precision=precision)
    assert factory.precisions(stored) == (Precision.FP32,)
    assert "unknown operation" in caplog.text
