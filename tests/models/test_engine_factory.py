"""The engines of one device: what is kept, what may be asked for, and which precision is preferred."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models import engine_factory as factory_module
from models.backbone_store import StoredBackbone
from models.batch import Batch
from models.batch_cost import UNMEASURED
from models.engine_choice import Comparison, EngineChoice, EngineRefusal
from models.engine_factory import EngineFactory
from models.errors import InvalidParameter
from models.features import FeatureKind, Features
from models.openvino_engine import OpenVinoEngine
from models.options import EngineName, PrecisionName
from models.precision import Precision
from models.torch_engine import TorchEngine
from tests.models.pretended_engines import Broken, pretend

pytestmark = pytest.mark.usefixtures("quick_rounds")


def test_a_choice_is_kept(stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = EngineFactory("cpu", threads=2, cache_dir=tmp_path).choice(stored)
    assert set(first.rates) == {"torch, 1 at a time", "openvino, 1 at a time", "openvino, 2 at a time"}
    assert all(rate > 0 for rate in first.rates.values())
    monkeypatch.setattr(factory_module, "compare", lambda *_: pytest.fail("it was found out before"))
    assert EngineFactory("cpu", threads=2, cache_dir=tmp_path).choice(stored) == first


def test_a_damaged_choice_is_made_again(stored: StoredBackbone, tmp_path: Path) -> None:
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path)
    factory.choice(stored)
    (file,) = (tmp_path / "engines").rglob("*.json")
    for damage in (b"", b"{}", b'{"engine":"abacus","streams":1,"reason":""}'):
        file.write_bytes(damage)
        assert isinstance(EngineFactory("cpu", threads=1, cache_dir=tmp_path).choice(stored), EngineChoice)
        assert file.read_bytes() != damage


def test_a_choice_that_cannot_be_kept_is_made_once(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path / "file")
    engine, reason = factory.build(stored), factory.reason(stored)
    monkeypatch.setattr(factory_module, "compare", lambda *_: pytest.fail("it was found out before"))
    assert factory.build(stored).identity == engine.identity
    assert factory.reason(stored) == reason
    assert factory.choice(stored).reason in reason


def test_workers_that_start_together_agree(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one measures too, as nothing is kept yet; then it takes what the first one has kept meanwhile."""
    first, second = (EngineFactory("cpu", threads=1, cache_dir=tmp_path) for _ in range(2))
    compare = factory_module.compare

    def compare_slowly(*args: Any) -> Comparison:
        monkeypatch.setattr(factory_module, "compare", compare)
        pretend(monkeypatch, torch=1.0, openvino=2.0)
        first.choice(stored)
        pretend(monkeypatch, torch=2.0, openvino=1.0)
        return compare(*args)

    monkeypatch.setattr(factory_module, "compare", compare_slowly)
    assert second.choice(stored) == first.choice(stored)
    assert second.choice(stored).engine == "openvino"


class OutOfSpace(OpenVinoEngine):
    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        raise OSError(28, "No space left on device")


def test_what_a_full_disk_decides_is_not_kept(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, torch=1.0, openvino=1000.0)
    with monkeypatch.context() as patched:
        patched.setattr(factory_module, "OpenVinoEngine", OutOfSpace)
        assert EngineFactory("cpu", threads=1, cache_dir=tmp_path).choice(stored).engine == "torch"
    assert EngineFactory("cpu", threads=1, cache_dir=tmp_path).choice(stored).engine == "openvino"


def test_a_refusal_is_kept_and_names_the_cure(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory_module, "OpenVinoEngine", Broken)
    for _ in range(2):
        factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path, wanted="openvino")
        with pytest.raises(InvalidParameter, match=r"it does not run there.*--engine torch"):
            factory.build(stored)
        with pytest.raises(InvalidParameter, match="--precision fp32"):
            factory.build(stored, Precision.INT8)
        monkeypatch.setattr(factory_module, "compare", lambda *_: pytest.fail("it was found out before"))
    kept = [EngineRefusal.model_validate_json(file.read_bytes()) for file in (tmp_path / "engines").rglob("*.json")]
    assert len(kept) == 2


def test_the_reason_tells_of_the_other_precision(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, torch=100.0, openvino=200.0)
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path, precision="int8")
    factory.precisions(stored)
    assert factory.reason(stored, Precision.INT8).endswith("; in fp32 200 rows/s")


def test_the_exact_engine_is_torch(stored: StoredBackbone, tmp_path: Path) -> None:
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path, wanted="openvino")
    assert factory.exact(stored).identity == TorchEngine(stored.load()).identity


def test_without_a_cache_torch_serves(
    stored: StoredBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()  # no directory can be made below it, not even by root
    pretend(monkeypatch, torch=1.0, openvino=1000.0)
    factory = EngineFactory("cpu", threads=1, cache_dir=tmp_path / "file")
    assert isinstance(factory.build(stored), TorchEngine)
    assert "the cache of graphs cannot be written" in caplog.text
    EngineFactory("cpu", threads=1, cache_dir=tmp_path / "file", wanted="torch").build(stored)
    assert "the choice of an engine cannot be kept" in caplog.text


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
    assert "/cpu/int8/" in factory.build(stored, Precision.INT8).identity
    assert "/cpu/fp32" in factory.build(stored).identity
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
