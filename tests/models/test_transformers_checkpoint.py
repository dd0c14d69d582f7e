"""Checkpoints of transformers: what is read, what is refused and what the refusal says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.backbone import Modality
from models.backbone_store import build_backbone
from models.errors import BackboneNotFound
from models.features import FeatureKind
from models.preprocessor import TextPreprocessorConfig, build_preprocessor
from models.sources import fetch_checkpoint
from tests.models.checkpoints import change_config, copy_of, features


def test_a_transformers_directory(tiny_text: str) -> None:
    checkpoint = fetch_checkpoint(tiny_text)
    assert checkpoint.config.architecture == "bert"
    assert (checkpoint.config.feature_dim, checkpoint.config.modality) == (16, Modality.TEXT)
    assert (checkpoint.config.pooling, checkpoint.config.normalize) == ("mean", False)
    assert checkpoint.preprocessor == TextPreprocessorConfig(max_tokens=64, pad_id=0)
    assert checkpoint.classifier is None
    assert not any(name.startswith("pooler") for name in checkpoint.state)


@pytest.mark.parametrize(
    ("files", "pooling", "normalize", "max_tokens"),
    [
        ({"1_Pooling/config.json": {"pooling_mode_cls_token": True}}, "first", False, 64),
        ({"1_Pooling/config.json": {"pooling_mode_lasttoken": True}}, "last", False, 64),
        ({"1_Pooling/config.json": {"pooling_mode_mean_tokens": True}}, "mean", False, 64),
        ({"modules.json": [{"type": "sentence_transformers.models.Normalize"}]}, "mean", True, 64),
        ({"sentence_bert_config.json": {"max_seq_length": 32}}, "mean", False, 32),
        ({"sentence_bert_config.json": {"max_seq_length": 512}}, "mean", False, 64),  # there are 64 positions
        ({"sentence_bert_config.json": {"max_seq_length": None}}, "mean", False, 64),
    ],
)
def test_the_settings_of_sentence_transformers(
    files: dict[str, object], pooling: str, normalize: bool, max_tokens: int, tiny_text: str, tmp_path: Path
) -> None:
    directory = copy_of(tiny_text, tmp_path / "copy")
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    checkpoint = fetch_checkpoint(f"dir:{directory}")
    assert (checkpoint.config.pooling, checkpoint.config.normalize) == (pooling, normalize)
    assert isinstance(checkpoint.preprocessor, TextPreprocessorConfig)
    assert checkpoint.preprocessor.max_tokens == max_tokens
    values_BD = features(checkpoint, tmp_path)
    assert float(values_BD.norm()) == pytest.approx(1, abs=1e-4) or not normalize


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "distilbert", "mpnet"])
def test_a_checkpoint_with_a_tasks_head_gives_its_encoder(family: str, tiny_text: str, tmp_path: Path) -> None:
    """The family's prefix is dropped (XLM-RoBERTa's is ``roberta.``), and so is the classifier."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    if family == "distilbert":
        sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    config = AutoConfig.for_model(family, vocab_size=90, max_position_embeddings=40, num_labels=3, **sizes)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    directory = tmp_path / "copy"
    model.save_pretrained(directory)
    stored = set(load_file(directory / "model.safetensors"))
    assert all("." in name for name in stored)
    shutil.copy(Path(tiny_text.removeprefix("dir:")) / "tokenizer.json", directory)
    checkpoint = fetch_checkpoint(f"dir:{directory}")
    assert checkpoint.config.feature_dim == 16
    assert not any("classifier" in name for name in checkpoint.state)
    preprocessor = build_preprocessor(checkpoint.preprocessor, directory)
    batch = preprocessor.collate([preprocessor.prepare("abc")])
    backbone = build_backbone(checkpoint.config, checkpoint.state)
    with torch.inference_mode():
        found = backbone(batch, FeatureKind.TOKENS).values
        encoder = getattr(model, model.base_model_prefix)
        wanted = encoder(input_ids=batch.ids_BT, attention_mask=batch.mask_BT).last_hidden_state
    torch.testing.assert_close(found, wanted)


def test_a_padding_token_that_the_config_leaves_out_is_the_familys(tiny_text: str, tmp_path: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=90, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    RobertaModel(config).save_pretrained(tmp_path)
    options = json.loads((tmp_path / "config.json").read_text())
    options.pop("pad_token_id", None)
    (tmp_path / "config.json").write_text(json.dumps(options))
    shutil.copy(Path(tiny_text.removeprefix("dir:")) / "tokenizer.json", tmp_path)
    preprocessor = fetch_checkpoint(f"dir:{tmp_path}").preprocessor
    assert isinstance(preprocessor, TextPreprocessorConfig)
    assert preprocessor.pad_id == 1


@pytest.mark.parametrize("pad_token_id", [None, -1, 90])
def test_a_padding_token_without_an_embedding_is_any_other(
    pad_token_id: int | None, tiny_text: str, tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2Model

    GPT2Model(GPT2Config(vocab_size=90, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    change_config(tmp_path, pad_token_id=pad_token_id)
    shutil.copy(Path(tiny_text.removeprefix("dir:")) / "tokenizer.json", tmp_path)
    preprocessor = fetch_checkpoint(f"dir:{tmp_path}").preprocessor
    assert isinstance(preprocessor, TextPreprocessorConfig)
    assert preprocessor.pad_id == 0


@pytest.mark.parametrize(("file", "pooling"), [("mean_tokens", "mean"), ("cls_token", "first"), (None, "last")])
def test_a_decoder_is_pooled_as_it_says_or_at_its_last_token(
    file: str | None, pooling: str, tiny_text: str, tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2Model

    GPT2Model(GPT2Config(vocab_size=90, n_embd=16, n_layer=1, n_head=2, n_positions=30)).save_pretrained(tmp_path)
    shutil.copy(Path(tiny_text.removeprefix("dir:")) / "tokenizer.json", tmp_path)
    if file is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{file}": True}))
    checkpoint = fetch_checkpoint(f"dir:{tmp_path}")
    assert checkpoint.config.pooling == pooling
    assert checkpoint.config.max_tokens == 30


def test_an_encoder_that_was_saved_without_its_decoder(tiny_text: str, tmp_path: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=90, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    model = T5EncoderModel(config)
    model.save_pretrained(tmp_path)
    shutil.copy(Path(tiny_text.removeprefix("dir:")) / "tokenizer.json", tmp_path)
    options = json.loads((tmp_path / "config.json").read_text())
    for is_encoder_decoder in (True, False):  # both are found on the hub
        (tmp_path / "config.json").write_text(json.dumps({**options, "is_encoder_decoder": is_encoder_decoder}))
        checkpoint = fetch_checkpoint(f"dir:{tmp_path}")
        assert torch.equal(checkpoint.state["embed_tokens.weight"], model.shared.weight)
        assert checkpoint.config.max_tokens is None


def test_weights_in_several_files(tiny_text: str, tmp_path: Path) -> None:
    directory = copy_of(tiny_text, tmp_path / "copy")
    state = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(state)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: state[name] for name in members}, directory / shard)
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    whole, sharded = fetch_checkpoint(tiny_text), fetch_checkpoint(f"dir:{directory}")
    assert sorted(whole.state) == sorted(sharded.state)
    torch.testing.assert_close(features(whole, tmp_path), features(sharded, tmp_path), atol=0, rtol=0)
    weight_map[names[0]] = "../elsewhere.safetensors"
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    save_file(state, tmp_path / "elsewhere.safetensors")
    with pytest.raises(BackboneNotFound, match=r"no elsewhere\.safetensors"):
        fetch_checkpoint(f"dir:{directory}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModel": "code.Model"}}, "needs code that comes with it"),
        ({"model_type": "no-such-type"}, "cannot build a 'no-such-type'"),
        ({"hidden_size": 15}, "cannot build a 'bert'"),  # no multiple of the heads
        ({"hidden_size": 32}, "do not fit its architecture"),
        ({"num_hidden_layers": 3}, r"encoder\.layer\.2\..* is missing"),
        ({"vocab_size": 9}, "do not fit"),
    ],
)
def test_a_config_that_does_not_hold_is_refused(
    changes: dict[str, object], message: str, tiny_text: str, tmp_path: Path
) -> None:
    directory = copy_of(tiny_text, tmp_path / "copy")
    change_config(directory, **changes)
    with pytest.raises(BackboneNotFound, match=message):
        fetch_checkpoint(f"dir:{directory}")


def test_an_encoder_with_a_decoder_is_refused(tiny_text: str, tmp_path: Path) -> None:
    from transformers import BartConfig

    directory = copy_of(tiny_text, tmp_path / "copy")
    BartConfig().save_pretrained(directory)
    with pytest.raises(BackboneNotFound, match="an encoder with a decoder"):
        fetch_checkpoint(f"dir:{directory}")


def test_a_tokenizer_of_another_model_is_refused(tiny_text: str, tmp_path: Path) -> None:
    directory = copy_of(tiny_text, tmp_path / "copy")
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["more"] = 85
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(BackboneNotFound, match="knows 86 tokens, its weights 85"):
        fetch_checkpoint(f"dir:{directory}")
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(BackboneNotFound, match=r"no readable tokenizer\.json"):
        fetch_checkpoint(f"dir:{directory}")


def test_a_stored_config_cannot_turn_code_or_kernels_on(tiny_text: str) -> None:
    """What `fetch_checkpoint` refuses may still stand in a store that somebody else wrote."""
    checkpoint = fetch_checkpoint(tiny_text)
    options = {**checkpoint.config.options, "auto_map": {"AutoModel": "code.Model"}, "attn_implementation": "a/kernel"}
    backbone = build_backbone(checkpoint.config.model_copy(update={"options": options}), checkpoint.state)
    assert backbone.model.config._attn_implementation == "sdpa"
    assert not hasattr(backbone.model.config, "auto_map")
