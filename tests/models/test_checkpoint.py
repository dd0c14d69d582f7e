"""Checkpoints of both families by name: what is read, what is refused and what the refusal says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.backbone import Modality
from models.backbone_store import build_backbone
from models.batch import collate
from models.checkpoint import Checkpoint
from models.errors import BackboneNotFound
from models.features import FeatureKind
from models.preprocessor import ImagePreprocessorConfig, TextPreprocessorConfig, build_preprocessor
from models.sources import fetch_checkpoint
from models.torch_engine import TorchEngine
from tests.models.pictures import encode, picture


def copy_of(name: str, directory: Path) -> Path:
    """A copy of a ``dir:`` checkpoint, to be bent."""
    shutil.copytree(name.removeprefix("dir:"), directory)
    return directory


def change_config(directory: Path, **changes: Any) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def features(checkpoint: Checkpoint, directory: Path) -> torch.Tensor:
    if checkpoint.tokenizer_json is not None:
        (directory / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    item = encode(picture(), "PNG") if checkpoint.config.modality is Modality.IMAGE else "a text"
    row = build_preprocessor(checkpoint.preprocessor, directory).prepare(item)
    engine = TorchEngine(build_backbone(checkpoint.config, checkpoint.state))
    return engine.features(collate([row]), FeatureKind.POOLED).values


# timm


def test_a_timm_directory(tiny_vision: str) -> None:
    checkpoint = fetch_checkpoint(tiny_vision)
    assert checkpoint.config.source == tiny_vision
    assert checkpoint.config.modality is Modality.IMAGE
    assert checkpoint.preprocessor == ImagePreprocessorConfig(
        input_size=(3, 64, 64), interpolation="bicubic", crop_pct=0.9, crop_mode="center"
    )
    assert checkpoint.tokenizer_json is None
    assert checkpoint.classifier is not None
    assert checkpoint.classifier.labels == ("red", "green", "blue")
    assert not any(name.startswith("classifier") for name in checkpoint.state)


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_vit", "test_resnet", "test_convnext"])
def test_backbone_and_classifier_together_are_the_whole_model(architecture: str, tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    model = timm.create_model(architecture, pretrained=False, num_classes=5).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": architecture}))
    checkpoint = fetch_checkpoint(f"dir:{tmp_path}")
    assert checkpoint.classifier is not None
    assert checkpoint.classifier.labels == ("0", "1", "2", "3", "4")
    row = build_preprocessor(checkpoint.preprocessor, tmp_path).prepare(encode(picture(200, 200), "PNG"))
    backbone = build_backbone(checkpoint.config, checkpoint.state)
    with torch.inference_mode():
        batch = collate([row])
        found = torch.nn.functional.linear(
            backbone(batch, FeatureKind.POOLED).values, checkpoint.classifier.weight_CD, checkpoint.classifier.bias_C
        )
        wanted = model((batch.pixels_BCHW - backbone.mean) / backbone.std)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_equal_class_names_are_told_apart(tiny_vision: str, tmp_path: Path) -> None:
    directory = copy_of(tiny_vision, tmp_path / "copy")
    change_config(directory, label_names=["crane", "bird", "crane"])
    classifier = fetch_checkpoint(f"dir:{directory}").classifier
    assert classifier is not None
    assert classifier.labels == ("crane (0)", "bird", "crane (2)")


def test_half_precision_weights_are_served_in_fp32(tiny_vision: str, tiny_text: str, tmp_path: Path) -> None:
    for index, name in enumerate((tiny_vision, tiny_text)):
        directory = copy_of(name, tmp_path / str(index))
        state = {
            k: v.half() if v.is_floating_point() else v for k, v in load_file(directory / "model.safetensors").items()
        }
        save_file(state, directory / "model.safetensors")
        if name is tiny_text:
            change_config(directory, dtype="float16", torch_dtype="float16")
        halved = fetch_checkpoint(f"dir:{directory}")
        backbone = build_backbone(halved.config, halved.state)
        assert {p.dtype for p in backbone.parameters()} == {torch.float32}
        torch.testing.assert_close(
            features(halved, tmp_path), features(fetch_checkpoint(name), tmp_path), atol=2e-2, rtol=2e-2
        )


@pytest.mark.parametrize("architecture", ["hf-hub:someone/model", "local-dir:/tmp", "resnet5", "", 3])
def test_a_config_cannot_name_anything_but_an_architecture(
    architecture: object, tiny_vision: str, tmp_path: Path
) -> None:
    directory = copy_of(tiny_vision, tmp_path / "copy")
    change_config(directory, architecture=architecture)
    with pytest.raises(BackboneNotFound, match="timm has no model"):
        fetch_checkpoint(f"dir:{directory}")


@pytest.mark.parametrize(
    "model_args",
    [{"checkpoint_path": "weights.pth"}, {"pretrained": True}, {"num_classes": 7}, {"no_such_argument": 1}],
)
def test_a_config_cannot_have_timm_read_another_file(
    model_args: dict[str, object], tiny_vision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm's factory would read a pickle at ``checkpoint_path``."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a file was read")

    monkeypatch.setattr("timm.models._factory.load_checkpoint", load)
    directory = copy_of(tiny_vision, tmp_path / "copy")
    change_config(directory, model_args=model_args)
    with pytest.raises(BackboneNotFound, match="cannot be built"):
        fetch_checkpoint(f"dir:{directory}")
    stored = fetch_checkpoint(tiny_vision)
    bent = stored.config.model_copy(update={"options": {**stored.config.options, "model_args": model_args}})
    with pytest.raises(TypeError):
        build_backbone(bent, stored.state)


def test_a_size_of_its_own_shapes_a_transformer(tmp_path: Path) -> None:
    """It has a position for each patch."""
    import timm

    cfg = {"input_size": [3, 64, 64]}
    model = timm.create_model("test_vit", num_classes=3, pretrained_cfg_overlay=cfg).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": cfg}))
    checkpoint = fetch_checkpoint(f"dir:{tmp_path}")
    backbone = build_backbone(checkpoint.config, checkpoint.state)
    row = build_preprocessor(checkpoint.preprocessor, tmp_path).prepare(encode(picture(200, 200), "PNG"))
    batch = collate([row])
    with torch.inference_mode():
        pixels_BCHW = (batch.pixels_BCHW - backbone.mean) / backbone.std
        wanted_BD = model.forward_head(model.forward_features(pixels_BCHW), pre_logits=True)
        torch.testing.assert_close(backbone(batch, FeatureKind.POOLED).values, wanted_BD, atol=1e-5, rtol=1e-4)


def test_a_backbone_that_reads_no_rgb_is_refused(tiny_vision: str, tmp_path: Path) -> None:
    directory = copy_of(tiny_vision, tmp_path / "copy")
    change_config(directory, pretrained_cfg={"input_size": [1, 64, 64]})
    with pytest.raises(BackboneNotFound, match="1 channels; only RGB"):
        fetch_checkpoint(f"dir:{directory}")


# transformers


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


# Both


@pytest.mark.parametrize("family", ["vision", "text"])
def test_weights_other_than_safetensors_are_not_read(
    family: str, tiny_vision: str, tiny_text: str, tmp_path: Path
) -> None:
    directory = copy_of(tiny_vision if family == "vision" else tiny_text, tmp_path / "copy")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(BackboneNotFound, match=r"no model\.safetensors; other weight formats are not read"):
        fetch_checkpoint(f"dir:{directory}")
    (directory / "model.safetensors").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(BackboneNotFound, match="damaged"):
        fetch_checkpoint(f"dir:{directory}")
    save_file({"other": torch.zeros(1)}, directory / "model.safetensors")
    with pytest.raises(BackboneNotFound, match=r"do not fit its architecture: .* is missing"):
        fetch_checkpoint(f"dir:{directory}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet5", "did you mean 'timm:resnet5"),
        ("timm:resnet50.a1_in2k", "did you mean 'timm:resnet50.a1_in1k'"),
        ("resnet50", "did you mean 'timm:resnet50'"),
        ("tf_efficientnet_lite0", "did you mean 'timm:tf_efficientnet_lite0'"),
        ("all-MiniLM-L6-v2", "did you mean 'hf:all-MiniLM-L6-v2'"),
        ("timm:tf_efficientnet_lite00", "did you mean 'timm:tf_efficientnet_lite0'"),
        ("timm:", "timm:MODEL, hf:REPOSITORY, dir:PATH or scratch:lstm"),
        ("hf:", "timm:MODEL, hf:REPOSITORY, dir:PATH or scratch:lstm"),
        ("", "timm:MODEL, hf:REPOSITORY, dir:PATH or scratch:lstm"),
        ("http://example.org/x", "timm:MODEL, hf:REPOSITORY, dir:PATH or scratch:lstm"),
        ("scratch:gru", "timm:MODEL, hf:REPOSITORY, dir:PATH or scratch:lstm"),
        ("scratch:lstm", "has no pretrained weights: it learns from the texts of graftwork finetune alone"),
        ("dir:/no/such/folder", "there is no such directory"),
        ("timm:coatnet_0_224", "no pretrained weights for .coatnet_0_224.; use dir:"),
    ],
)
def test_an_unknown_name_is_refused_with_the_cure(name: str, message: str) -> None:
    with pytest.raises(BackboneNotFound, match=message):
        fetch_checkpoint(name)


def test_a_directory_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneNotFound, match=r"no readable config\.json"):
        fetch_checkpoint(f"dir:{tmp_path}")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BackboneNotFound, match=r"no readable config\.json"):
        fetch_checkpoint(f"dir:{tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BackboneNotFound, match="no model_type"):
        fetch_checkpoint(f"dir:{tmp_path}")
