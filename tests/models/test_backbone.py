"""What identifies a backbone, and how it is built again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.backbone import BackboneConfig, Modality, backbone_digest
from models.backbone_store import BackboneStore, build_backbone
from models.sources import fetch_checkpoint
from models.timm_backbone import TimmBackbone
from models.transformers_backbone import TransformersBackbone

CONFIG = BackboneConfig(
    source="timm:x", library="timm", architecture="x", modality=Modality.IMAGE, feature_dim=3, options={"b": 1, "a": 2}
)
DIGEST = backbone_digest({"config.json": b"{}", "model.safetensors": b"weights"})


def test_a_digest_never_changes() -> None:
    """Every repository on disk is named by it."""
    assert DIGEST == "9ec0cdbf409d290232d4880f3811897c2575ea24bc891a672ba9b1e4b6e9d9f5"


def test_a_digest_is_of_names_and_contents_in_any_order() -> None:
    weights = hashlib.sha256(b"weights").hexdigest()
    assert backbone_digest({"model.safetensors": weights, "config.json": b"{}"}) == DIGEST
    others = [
        {"config.json": b"{}", "model.safetensors": b"weightS"},
        {"config.json": b"{}", "model.safetensorS": b"weights"},
        {"config.json": b"weights", "model.safetensors": b"{}"},
        {"config.json": b"{}"},
        {"config.json": b"{}", "model.safetensors": b"weights", "extra.pkl": b""},
    ]
    assert len({DIGEST, *(backbone_digest(files) for files in others)}) == 6


@given(st.dictionaries(st.text(), st.binary()), st.dictionaries(st.text(), st.binary()))
def test_equal_digests_mean_equal_files(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (backbone_digest(one) == backbone_digest(other)) == (one == other)


def test_equal_configurations_are_equal_bytes() -> None:
    reordered = CONFIG.model_copy(update={"options": {"a": 2, "b": 1}})
    assert reordered.to_json() == CONFIG.to_json()
    assert BackboneConfig.model_validate_json(CONFIG.to_json()) == CONFIG


def test_a_config_with_unknown_fields_is_refused() -> None:
    with pytest.raises(ValidationError):
        BackboneConfig.model_validate_json(CONFIG.to_json().replace(b'"source"', b'"sauce"'))


@pytest.mark.parametrize(("family", "kind"), [("vision", TimmBackbone), ("text", TransformersBackbone)])
def test_a_stored_backbone_is_built_again(
    family: str, kind: type, tiny_vision: str, tiny_text: str, tmp_path: Path
) -> None:
    checkpoint = fetch_checkpoint(tiny_vision if family == "vision" else tiny_text)
    backbone = BackboneStore(tmp_path).add(checkpoint).load()
    assert isinstance(backbone, kind)
    assert not any(module.training for module in backbone.modules())
    for name, tensor in checkpoint.state.items():
        assert torch.equal(backbone.model.state_dict()[name], tensor)
    assert backbone.config == checkpoint.config


def test_weights_of_another_shape_are_refused(tiny_vision: str) -> None:
    checkpoint = fetch_checkpoint(tiny_vision)
    name = next(iter(checkpoint.state))
    with pytest.raises(RuntimeError, match="size mismatch"):
        build_backbone(checkpoint.config, {**checkpoint.state, name: torch.zeros(1, 2, 3, 4)})
    with pytest.raises(RuntimeError, match="Missing key"):
        build_backbone(checkpoint.config, {k: v for k, v in checkpoint.state.items() if k != name})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        build_backbone(checkpoint.config, {**checkpoint.state, "other": torch.zeros(1)})
