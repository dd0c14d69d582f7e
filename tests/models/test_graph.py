"""Graphs hold for batches of all sizes, or there is none: OpenVINO would read beyond its tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.backbone_store import build_backbone
from models.batch import TextBatch, TextRow, collate
from models.features import FeatureKind
from models.graph import export_graph, graph_inputs
from models.openvino_library import openvino_runtime
from models.sources import fetch_checkpoint
from models.transformers_backbone import TransformersBackbone
from tests.models.families import TEXT_FAMILIES


def batch(*lengths: int) -> TextBatch:
    collated = collate([TextRow(ids=list(range(5, 5 + length)), segments=[0] * length) for length in lengths])
    assert isinstance(collated, TextBatch)
    return collated


@pytest.fixture
def decoder(tmp_path: Path, tiny_text: str) -> TransformersBackbone:
    """GPT-2, which gives its output the shape of its input."""
    (family,) = [each for each in TEXT_FAMILIES if each.model_type == "gpt2"]
    family.write(tmp_path, Path(tiny_text.removeprefix("dir:")) / "tokenizer.json")
    checkpoint = fetch_checkpoint(f"dir:{tmp_path}")
    return build_backbone(checkpoint.config, checkpoint.state)


def test_a_graph_holds_for_all_sizes(decoder: TransformersBackbone) -> None:
    model = openvino_runtime().compile_model(
        export_graph(decoder, batch(3, 5), [batch(4)]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    for lengths in [(3, 5), (1,), (40, 2, 7), (8,) * 9]:
        (found_BD,) = model([tensor.numpy() for tensor in graph_inputs(batch(*lengths))]).values()
        with torch.inference_mode():
            wanted_BD = decoder(batch(*lengths), FeatureKind.POOLED).values
        torch.testing.assert_close(torch.from_numpy(found_BD), wanted_BD, atol=1e-4, rtol=1e-4)
    assert not decoder.model._forward_hooks
    assert not any(module._forward_hooks for module in decoder.model.children())


def of_two(values_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Pools two rows, although nothing says so."""
    return torch.stack([values_BTD[row].mean(0) for row in range(len(values_BTD))])


def of_five(values_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Pools five tokens."""
    return values_BTD.sum(1) / values_BTD[0].new_full((1,), len(values_BTD[0]))


@pytest.mark.parametrize("pool", [of_two, of_five])
def test_a_trace_that_holds_for_one_size_is_refused(
    decoder: TransformersBackbone, monkeypatch: pytest.MonkeyPatch, pool: object
) -> None:
    monkeypatch.setattr(decoder, "_pool", pool)
    with pytest.raises(RuntimeError, match="batches of one size only"):
        export_graph(decoder, batch(5, 3), [batch(4, 2, 1)])
