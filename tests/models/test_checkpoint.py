"""Weights of both families: which files are read, and in which precision they are served."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.backbone_store import build_backbone
from models.errors import BackboneNotFound
from models.sources import fetch_checkpoint
from tests.models.checkpoints import change_config, copy_of, features


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
