"""Text backbones: pooling, padding that is not seen, layer groups."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.backbone_store import build_backbone
from models.batch import TextBatch, TextRow, collate
from models.errors import InvalidParameter
from models.features import FeatureKind
from models.sources import fetch_checkpoint
from models.transformers_backbone import TransformersBackbone, build_encoder
from tests.models.families import TEXT_FAMILIES, TextFamily


@pytest.fixture(scope="module")
def backbones(tiny_text: str) -> dict[str, TransformersBackbone]:
    """The tiny BERT with each way of pooling."""
    checkpoint = fetch_checkpoint(tiny_text)
    updates = {
        "mean": {"pooling": "mean"},
        "first": {"pooling": "first"},
        "last": {"pooling": "last"},
        "unit": {"pooling": "mean", "normalize": True},
    }
    return {
        name: build_backbone(checkpoint.config.model_copy(update=update), checkpoint.state)
        for name, update in updates.items()
    }


@pytest.fixture(scope="module")
def backbone(backbones: dict[str, TransformersBackbone]) -> TransformersBackbone:
    return backbones["mean"]


def row(*ids: int) -> TextRow:
    return TextRow(ids=[2, *ids, 3], segments=[0] * (len(ids) + 2))


def batch(*rows: TextRow, pad_id: int = 0) -> TextBatch:
    collated = collate(rows, pad_id=pad_id)
    assert isinstance(collated, TextBatch)
    return collated


def values(backbone: TransformersBackbone, rows: TextBatch, kind: FeatureKind = FeatureKind.POOLED) -> torch.Tensor:
    with torch.inference_mode():
        return backbone(rows, kind).values


def test_pooled_and_token_features(backbone: TransformersBackbone) -> None:
    rows = batch(row(5, 6, 7), row(8))
    assert values(backbone, rows).shape == (2, 16)
    with torch.inference_mode():
        tokens = backbone(rows, FeatureKind.TOKENS)
    assert tokens.values.shape == (2, 5, 16)
    assert tokens.mask_BT is not None
    assert tokens.mask_BT.tolist() == [[1] * 5, [1, 1, 1, 0, 0]]


def test_each_pooling_is_over_real_tokens_only(backbones: dict[str, TransformersBackbone]) -> None:
    rows = batch(row(5, 6, 7), row(8))
    tokens_BTD = values(backbones["mean"], rows, FeatureKind.TOKENS)
    wanted = {
        "mean": torch.stack([tokens_BTD[0].mean(0), tokens_BTD[1, :3].mean(0)]),
        "first": tokens_BTD[:, 0],
        "last": torch.stack([tokens_BTD[0, 4], tokens_BTD[1, 2]]),
    }
    wanted["unit"] = wanted["mean"] / wanted["mean"].norm(dim=1, keepdim=True)
    for name, expected in wanted.items():
        torch.testing.assert_close(values(backbones[name], rows), expected)


tokens = st.lists(st.integers(5, 80), min_size=0, max_size=30)


@given(st.lists(tokens, min_size=2, max_size=5), st.sampled_from([0, 4]), st.sampled_from(["mean", "last", "unit"]))
@settings(deadline=None, max_examples=20)
def test_a_row_sees_neither_its_batch_mates_nor_padding(
    backbones: dict[str, TransformersBackbone], ids: list[list[int]], pad_id: int, pooling: str
) -> None:
    rows = [row(*line) for line in ids]
    together = values(backbones[pooling], batch(*rows, pad_id=pad_id))
    alone = torch.cat([values(backbones[pooling], batch(single)) for single in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_segments_reach_the_model(backbone: TransformersBackbone) -> None:
    one = TextRow(ids=[2, 5, 3, 6, 3], segments=[0, 0, 0, 1, 1])
    assert not torch.allclose(values(backbone, batch(one)), values(backbone, batch(row(5, 3, 6))), atol=1e-4)


def test_layer_groups_hold_every_parameter_once_from_input_to_output(backbone: TransformersBackbone) -> None:
    groups = backbone.layer_groups()
    grouped = [(name, id(p)) for group in groups for name, p in group.parameters.items()]
    assert len(grouped) == len(dict(grouped))
    assert dict(grouped) == {name: id(parameter) for name, parameter in backbone.named_parameters()}
    assert [group.name for group in groups] == ["embeddings", "encoder.layer.0", "encoder.layer.1"]
    for group in groups:
        assert all(name.startswith(f"model.{group.name}.") for name in group.parameters)


@pytest.mark.parametrize("model_type", ["distilbert", "modernbert", "electra", "qwen3", "mpnet", "deberta-v2"])
def test_layer_groups_of_other_families(model_type: str) -> None:
    sizes = {"vocab_size": 90, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    sizes |= {"intermediate_size": 32, "pad_token_id": 0}
    if model_type == "distilbert":
        sizes = {"vocab_size": 90, "dim": 16, "n_heads": 2, "n_layers": 2, "hidden_dim": 32}
    encoder = build_encoder({"model_type": model_type, **sizes})
    backbone = object.__new__(TransformersBackbone)
    torch.nn.Module.__init__(backbone)
    backbone.model = encoder
    groups = backbone.layer_groups()
    grouped = [id(p) for group in groups for p in group.parameters.values()]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in encoder.parameters()}
    assert [group.name.rpartition(".")[2] for group in groups] == ["embeddings", "0", "1"]
    everywhere = {f"model.{name}" for name, module in encoder.named_modules() if isinstance(module, torch.nn.Embedding)}
    assert {f"{name}.weight" for name in everywhere} <= set(groups[0].parameters)


def test_segments_do_not_reach_a_model_without_embeddings_for_them(tmp_path: Path, tiny_text: str) -> None:
    """GPT-2 would take them for tokens; RoBERTa has one embedding for them, and would find none for the second."""
    for family in (each for each in TEXT_FAMILIES if each.model_type in ("gpt2", "roberta")):
        directory = tmp_path / family.model_type
        family.write(directory, Path(tiny_text.removeprefix("dir:")) / "tokenizer.json")
        checkpoint = fetch_checkpoint(f"dir:{directory}")
        backbone = build_backbone(checkpoint.config, checkpoint.state)
        pair, single = TextRow(ids=[5, 6, 7], segments=[0, 1, 1]), TextRow(ids=[5, 6, 7], segments=[0, 0, 0])
        torch.testing.assert_close(values(backbone, batch(pair)), values(backbone, batch(single)), atol=0, rtol=0)


@pytest.mark.parametrize("family", TEXT_FAMILIES, ids=lambda family: family.model_type)
def test_values_are_dropped_in_training_only(family: TextFamily, tmp_path: Path, tiny_text: str) -> None:
    family.write(tmp_path, Path(tiny_text.removeprefix("dir:")) / "tokenizer.json")
    checkpoint = fetch_checkpoint(f"dir:{tmp_path}")
    rows = batch(row(5, 6, 7), row(8, 9))
    built = {rate: build_backbone(checkpoint.config, checkpoint.state, dropout=rate) for rate in (None, 0.0, 0.5)}
    assert all(backbone.config == checkpoint.config for backbone in built.values())
    wanted = values(built[None], rows)
    torch.testing.assert_close(values(built[0.5], rows), wanted, atol=0, rtol=0)
    for rate, backbone in built.items():
        backbone.train()
        drops_nothing = rate == 0.0 or (rate is None and family.model_type == "qwen3")  # which was trained without
        assert torch.allclose(values(backbone, rows), wanted, atol=1e-6) == drops_nothing


def test_a_model_that_drops_nothing_says_so() -> None:
    with pytest.raises(InvalidParameter, match="a 'rwkv' has no dropout; leave it out"):
        build_encoder({"model_type": "rwkv", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1}, dropout=0.1)


def test_precision_and_kernels_of_a_config_are_not_followed() -> None:
    options = {
        "model_type": "bert",
        "vocab_size": 9,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    options |= {"intermediate_size": 8, "dtype": "float16", "attn_implementation": "someone/kernel"}
    encoder = build_encoder(options)
    assert encoder.dtype == torch.float32
    assert encoder.config._attn_implementation == "sdpa"
    assert encoder.pooler is None
