"""Each family of backbones, tiny and random: from its files, by name, to the features that its own library gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from finetune.from_scratch import lstm_checkpoint
from models import batch_timing, engine_choice
from models.backbone_store import BackboneStore, build_backbone
from models.batch import ImageBatch, Row, TextBatch, TextRow, collate
from models.checkpoint import Checkpoint
from models.engine_factory import EngineFactory
from models.features import FeatureKind
from models.precision import Precision
from models.preprocessor import TextPreprocessorConfig, build_preprocessor
from models.sources import fetch_checkpoint
from tests.models.families import IMAGE_FAMILIES, TEXT_FAMILIES, ImageFamily, TextFamily
from tests.models.pictures import encode, picture

if TYPE_CHECKING:
    from models.backbone_store import TorchBackbone

TEXTS = ("a short text", "1", "here is one that is longer, and ends with a mark!")


def check_layer_groups(backbone: TorchBackbone) -> Sequence[str]:
    """Every parameter is in one group, by its name; returns the names of the groups."""
    groups = backbone.layer_groups()
    grouped = [(name, parameter) for group in groups for name, parameter in group.parameters.items()]
    assert len(grouped) == len(dict(grouped))
    named = dict(backbone.named_parameters())
    assert dict(grouped).keys() == named.keys()
    assert all(parameter is named[name] for name, parameter in grouped)
    return [group.name for group in groups]


def check_rows_alone(backbone: TorchBackbone, rows: Sequence[Row], pad_id: int = 0) -> None:
    """A row has the features in a batch that it has alone."""
    with torch.inference_mode():
        together = backbone(collate(rows, pad_id=pad_id), FeatureKind.POOLED).values
        tokens = backbone(collate(rows, pad_id=pad_id), FeatureKind.TOKENS)
        for index, row in enumerate(rows):
            batch = collate([row])
            alone_D = backbone(batch, FeatureKind.POOLED).values[0]
            scale = max(1.0, float(alone_D.abs().max()))  # deep networks with random weights give large numbers
            torch.testing.assert_close(together[index] / scale, alone_D / scale, atol=1e-5, rtol=1e-5)
            alone_TD = backbone(batch, FeatureKind.TOKENS).values[0]
            assert tokens.mask_BT is not None
            assert tokens.mask_BT[index].sum() == len(alone_TD)
            found_TD = tokens.values[index, : len(alone_TD)]
            torch.testing.assert_close(found_TD / scale, alone_TD / scale, atol=1e-5, rtol=1e-5)


def prepared(checkpoint: Checkpoint, directory: Path, texts: Sequence[str]) -> Sequence[TextRow]:
    assert checkpoint.tokenizer_json is not None
    (directory / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    preprocessor = build_preprocessor(checkpoint.preprocessor, directory)
    rows = [preprocessor.prepare(text, truncate=True) for text in texts]
    return [row for row in rows if isinstance(row, TextRow)]


@pytest.mark.parametrize("family", TEXT_FAMILIES, ids=lambda family: family.model_type)
def test_a_text_family_gives_what_its_library_gives(family: TextFamily, tiny_text: str, tmp_path: Path) -> None:
    encoder = family.write(tmp_path, Path(tiny_text.removeprefix("dir:")) / "tokenizer.json")
    checkpoint = fetch_checkpoint(f"dir:{tmp_path}")
    assert checkpoint.config.architecture == family.model_type
    assert (checkpoint.config.feature_dim, checkpoint.config.pooling) == (16, family.pooling)
    assert isinstance(checkpoint.preprocessor, TextPreprocessorConfig)
    assert checkpoint.preprocessor.max_tokens == family.max_tokens
    backbone = build_backbone(checkpoint.config, checkpoint.state)
    rows = prepared(checkpoint, tmp_path, [*TEXTS, "as long as it gets " * 40])
    assert max(len(row.ids) for row in rows) == family.max_tokens
    for row in rows:
        with torch.inference_mode():
            wanted_TD = encoder(input_ids=torch.tensor([row.ids])).last_hidden_state[0]
            batch = collate([row])
            tokens_TD = backbone(batch, FeatureKind.TOKENS).values[0]
            pooled_D = backbone(batch, FeatureKind.POOLED).values[0]
        torch.testing.assert_close(tokens_TD, wanted_TD, atol=1e-5, rtol=1e-5)
        wanted_D = wanted_TD[-1] if family.pooling == "last" else wanted_TD.mean(0)
        torch.testing.assert_close(pooled_D, wanted_D, atol=1e-5, rtol=1e-5)
    check_rows_alone(backbone, rows, checkpoint.preprocessor.pad_id)
    assert check_layer_groups(backbone) == ["embeddings", f"{family.layer}.0", f"{family.layer}.1"]


@pytest.mark.parametrize("family", IMAGE_FAMILIES, ids=lambda family: family.architecture)
def test_an_image_family_gives_what_its_library_gives(family: ImageFamily, tmp_path: Path) -> None:
    model = family.write(tmp_path)
    checkpoint = fetch_checkpoint(f"dir:{tmp_path}")
    backbone = build_backbone(checkpoint.config, checkpoint.state)
    preprocessor = build_preprocessor(checkpoint.preprocessor, tmp_path)
    rows = [preprocessor.prepare(encode(picture(size, 120), "PNG")) for size in (90, 200)]
    batch = collate(rows)
    assert isinstance(batch, ImageBatch)
    pixels_BCHW = (batch.pixels_BCHW - backbone.mean) / backbone.std
    with torch.inference_mode():
        features_BD = backbone(batch, FeatureKind.POOLED).values
        map_or_tokens = model.forward_features(pixels_BCHW)
        wanted_BD = model.forward_head(map_or_tokens, pre_logits=True)
        scale = float(wanted_BD.abs().max())
        torch.testing.assert_close(features_BD / scale, wanted_BD / scale, atol=1e-4, rtol=1e-4)
        wanted_BTD = map_or_tokens.flatten(2).transpose(1, 2) if map_or_tokens.ndim == 4 else map_or_tokens
        tokens_BTD = backbone(batch, FeatureKind.TOKENS).values
        torch.testing.assert_close(tokens_BTD / scale, wanted_BTD / scale, atol=1e-4, rtol=1e-4)
        assert features_BD.shape == (2, checkpoint.config.feature_dim)
        classifier = checkpoint.classifier
        assert classifier is not None
        logits_BC = nn.functional.linear(features_BD, classifier.weight_CD, classifier.bias_C)
        torch.testing.assert_close(logits_BC / scale, model(pixels_BCHW) / scale, atol=1e-4, rtol=1e-4)
    check_rows_alone(backbone, rows)
    assert check_layer_groups(backbone) == list(family.groups)


def test_a_network_of_our_own_learns_to_read_from_the_users_texts(tmp_path: Path) -> None:
    checkpoint = lstm_checkpoint([*TEXTS, "und ein Text mit Ümläuten"], seed=3)
    stored = BackboneStore(tmp_path / "backbones").add(checkpoint)
    backbone = stored.load()
    rows = prepared(checkpoint, tmp_path, [*TEXTS, "日本語"])
    library = nn.LSTM(256, 256, batch_first=True, bidirectional=True)
    library.load_state_dict(
        {
            f"{name}{end}": tensor
            for lstm, end in ((backbone.model.ahead, ""), (backbone.model.back, "_reverse"))
            for name, tensor in lstm.state_dict().items()
        }
    )
    with torch.inference_mode():
        for row in rows:
            batch = collate([row])
            assert isinstance(batch, TextBatch)
            wanted_TD = library(backbone.model.embedding(batch.ids_BT))[0][0]
            torch.testing.assert_close(backbone(batch, FeatureKind.TOKENS).values[0], wanted_TD)
            torch.testing.assert_close(backbone(batch, FeatureKind.POOLED).values[0], wanted_TD.mean(0))
    check_rows_alone(backbone, rows)
    assert check_layer_groups(backbone) == ["embeddings", "lstm"]


ENGINE_FAMILIES = ("gpt2", "qwen3", "t5", "roberta", "distilbert", "lstm", "test_vit", "test_vit2", "test_resnet")


@pytest.mark.parametrize("name", ENGINE_FAMILIES)
def test_a_family_runs_on_every_engine(
    name: str, tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that gave other features than torch, or could not be made, would be left out of the rates."""
    monkeypatch.setattr(engine_choice, "ROUND_SECONDS", 0.02)
    monkeypatch.setattr(batch_timing, "SECONDS", 0.1)
    (tmp_path / "checkpoint").mkdir()
    if name == "lstm":
        checkpoint = lstm_checkpoint(TEXTS, seed=0)
    else:
        for text in TEXT_FAMILIES:
            if text.model_type == name:
                text.write(tmp_path / "checkpoint", Path(tiny_text.removeprefix("dir:")) / "tokenizer.json")
        for image in IMAGE_FAMILIES:
            if image.architecture == name:
                image.write(tmp_path / "checkpoint")
        checkpoint = fetch_checkpoint(f"dir:{tmp_path / 'checkpoint'}")
    stored = BackboneStore(tmp_path / "backbones").add(checkpoint)
    choice = EngineFactory("cpu", threads=1, cache_dir=tmp_path / "cache").choice(stored, Precision.FP32)
    assert set(choice.rates) == {"torch, 1 at a time", "openvino, 1 at a time"}, choice.reason
