"""Checkpoints of timm: what is read, what is refused and what the refusal says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.backbone import Modality
from models.backbone_store import build_backbone
from models.batch import collate
from models.errors import BackboneNotFound
from models.features import FeatureKind
from models.preprocessor import ImagePreprocessorConfig, build_preprocessor
from models.sources import fetch_checkpoint
from tests.models.checkpoints import change_config, copy_of
from tests.models.pictures import encode, picture


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
