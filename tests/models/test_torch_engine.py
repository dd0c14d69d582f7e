"""The engine gives what the backbone gives."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch

from models.backbone_store import build_backbone
from models.batch import Batch, ImageRow, TextRow, collate
from models.checkpoint import Checkpoint
from models.engine import blank_batch
from models.errors import DeviceFailed
from models.features import FeatureKind, Features
from models.sources import fetch_checkpoint
from models.torch_engine import Arithmetic, TorchEngine


@pytest.fixture(params=["vision", "text"])
def checkpoint(request: pytest.FixtureRequest, tiny_vision: str, tiny_text: str) -> Checkpoint:
    return fetch_checkpoint(tiny_vision if request.param == "vision" else tiny_text)


@pytest.mark.parametrize("kind", FeatureKind)
def test_features_are_the_backbones(checkpoint: Checkpoint, kind: FeatureKind) -> None:
    if checkpoint.tokenizer_json is None:
        torch.manual_seed(0)
        batch = collate([ImageRow(pixels_CHW=torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)) for _ in range(3)])
    else:
        batch = collate([TextRow(ids=[2, *range(5, 5 + n), 3], segments=[0] * (n + 2)) for n in (1, 4, 2)])
    with torch.inference_mode():
        wanted = build_backbone(checkpoint.config, checkpoint.state)(batch, kind)
    found = TorchEngine(build_backbone(checkpoint.config, checkpoint.state)).features(batch, kind)
    assert found.kind is kind
    assert found.values.dtype == torch.float32
    assert found.values.device.type == "cpu"
    assert not found.values.requires_grad
    torch.testing.assert_close(found.values, wanted.values, atol=1e-4, rtol=1e-4)
    assert (found.mask_BT is None) == (kind is FeatureKind.POOLED)
    if found.mask_BT is not None and wanted.mask_BT is not None:
        assert torch.equal(found.mask_BT, wanted.mask_BT)


def test_warm_up_is_a_real_inference(checkpoint: Checkpoint) -> None:
    backbone = build_backbone(checkpoint.config, checkpoint.state)
    calls = []
    backbone.register_forward_hook(lambda *_: calls.append(1))
    TorchEngine(backbone).warm_up()
    assert calls == [1]


def test_identity_names_engine_version_device_and_precision(checkpoint: Checkpoint) -> None:
    engine = TorchEngine(build_backbone(checkpoint.config, checkpoint.state))
    assert engine.identity == f"torch-{torch.__version__}/cpu/fp32"


@pytest.mark.parametrize(("arithmetic", "short", "off"), [("float16", "fp16", 2e-3), ("bfloat16", "bf16", 2e-2)])
def test_features_in_half_precision_are_nearly_the_same(
    checkpoint: Checkpoint, arithmetic: Arithmetic, short: str, off: float
) -> None:
    batch = blank_batch(checkpoint.config)
    wanted_BD = TorchEngine(build_backbone(checkpoint.config, checkpoint.state)).features(batch, FeatureKind.POOLED)
    engine = TorchEngine(build_backbone(checkpoint.config, checkpoint.state), arithmetic=arithmetic)
    found_BD = engine.features(batch, FeatureKind.POOLED)
    assert engine.identity == f"torch-{torch.__version__}/cpu/{short}"
    assert found_BD.values.dtype == torch.float32
    distance = (found_BD.values - wanted_BD.values).norm() / wanted_BD.values.norm()
    assert 0 < distance < off


def failing_engine(checkpoint: Checkpoint, fail: Callable[[], object]) -> TorchEngine:
    backbone = build_backbone(checkpoint.config, checkpoint.state)
    backbone.register_forward_hook(lambda *_: fail())
    return TorchEngine(backbone)


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "fail",
    [
        raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
        lambda: torch.empty(1 << 50),  # what torch says on the CPU, in its own words
    ],
)
def test_too_little_memory_is_a_memory_error(checkpoint: Checkpoint, fail: Callable[[], object]) -> None:
    with pytest.raises(MemoryError, match="too little memory"):
        failing_engine(checkpoint, fail).features(blank_batch(checkpoint.config), FeatureKind.POOLED)


def test_a_failed_accelerator_has_failed_for_good(checkpoint: Checkpoint) -> None:
    engine = failing_engine(checkpoint, raising(torch.AcceleratorError("CUDA error: an illegal memory access")))
    with pytest.raises(DeviceFailed) as caught:
        engine.features(blank_batch(checkpoint.config), FeatureKind.POOLED)
    assert "CUDA" not in caught.value.message
    assert isinstance(caught.value.__cause__, torch.AcceleratorError)  # for the log


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("odd")])
def test_any_other_error_is_passed_on(checkpoint: Checkpoint, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        failing_engine(checkpoint, raising(error)).features(blank_batch(checkpoint.config), FeatureKind.POOLED)
    assert caught.value is error


def test_an_engine_works_on_after_it_had_too_little_memory(checkpoint: Checkpoint) -> None:
    fails = [True]

    def fail() -> None:
        if fails.pop():
            torch.empty(1 << 50)

    engine = failing_engine(checkpoint, fail)
    with pytest.raises(MemoryError):
        engine.features(blank_batch(checkpoint.config), FeatureKind.POOLED)
    fails.append(False)
    assert engine.features(blank_batch(checkpoint.config), FeatureKind.POOLED).values.isfinite().all()


@pytest.mark.parametrize(("device", "times"), [("cuda", 1), ("cpu", 0)])
def test_what_a_batch_had_allocated_is_free_before_the_device_gives_it_back(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, device: str, times: int
) -> None:
    """A traceback would hold it; and what is held cannot be given back for the next, smaller batch."""
    activations: list[weakref.ref[torch.Tensor]] = []
    given_back: list[bool] = []

    def fail(batch: Batch, kind: FeatureKind) -> Features:
        activation = torch.zeros(1000)
        activations.append(weakref.ref(activation))
        raise torch.OutOfMemoryError("CUDA out of memory")

    engine = TorchEngine(build_backbone(checkpoint.config, checkpoint.state))
    monkeypatch.setattr(engine, "_features", fail)
    monkeypatch.setattr(engine, "_device", torch.device(device))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(activations[0]() is None))
    with pytest.raises(MemoryError):
        engine.features(blank_batch(checkpoint.config), FeatureKind.POOLED)
    assert given_back == [True] * times
