"""Names of checkpoints: what a name that leads to none is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import BackboneNotFound
from models.sources import fetch_checkpoint


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
