"""What learns with each strategy, in every family of backbones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from finetune.strategy import Strategy, plan
from finetune.training.recipe import recipe_for
from models.backbone import Modality
from models.backbone_store import build_backbone
from models.batch import Batch
from models.engine import blank_batch
from models.errors import InvalidParameter
from models.features import FeatureKind
from models.sources import fetch_checkpoint
from tests.models.families import IMAGE_FAMILIES, TEXT_FAMILIES, ImageFamily, TextFamily
from tests.tiny_models import write_tiny_text

if TYPE_CHECKING:
    from models.backbone_store import TorchBackbone


@pytest.fixture(params=[*TEXT_FAMILIES, *IMAGE_FAMILIES], ids=lambda family: vars(family).get("model_type", "image"))
def backbone(request: pytest.FixtureRequest, tmp_path: Path) -> TorchBackbone:
    family: TextFamily | ImageFamily = request.param
    (tmp_path / "family").mkdir()
    (tmp_path / "tiny").mkdir()
    if isinstance(family, TextFamily):
        write_tiny_text(tmp_path / "tiny")
        family.write(tmp_path / "family", tmp_path / "tiny" / "tokenizer.json")
    else:
        family.write(tmp_path / "family")
    checkpoint = fetch_checkpoint(f"dir:{tmp_path / 'family'}")
    return build_backbone(checkpoint.config, checkpoint.state)


def pooled(backbone: TorchBackbone, batch: Batch) -> torch.Tensor:
    values_BD: torch.Tensor = backbone(batch, FeatureKind.POOLED).values
    return values_BD


def learning(backbone: TorchBackbone) -> set[str]:
    return {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def test_full_trains_everything_and_lower_layers_more_slowly(backbone: TorchBackbone) -> None:
    recipe = recipe_for(Strategy.FULL, backbone.config.modality, 100, layer_decay=0.5)
    planned = plan(Strategy.FULL, backbone, recipe)
    names = [name for group in planned.groups for name in group.parameters]
    assert sorted(names) == sorted(dict(backbone.named_parameters()))
    assert learning(backbone) == set(names)
    rates = [group.rate for group in planned.groups]
    assert rates == [0.5**depth for depth in reversed(range(len(rates)))]


def test_partial_trains_the_last_groups(backbone: TorchBackbone) -> None:
    groups = backbone.layer_groups()
    recipe = recipe_for(Strategy.PARTIAL, backbone.config.modality, 100, trained_groups=2)
    planned = plan(Strategy.PARTIAL, backbone, recipe)
    assert [group.name for group in planned.groups] == [group.name for group in groups[-2:]]
    assert learning(backbone) == {name for group in groups[-2:] for name in group.parameters}
    too_many = recipe_for(Strategy.PARTIAL, backbone.config.modality, 100, trained_groups=len(groups))
    with pytest.raises(InvalidParameter, match="--strategy full"):
        plan(Strategy.PARTIAL, backbone, too_many)


def test_lora_starts_as_nothing_and_ends_in_the_weights(backbone: TorchBackbone) -> None:
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    batch = blank_batch(backbone.config)
    wanted_BD = pooled(backbone, batch)
    recipe = recipe_for(Strategy.LORA, backbone.config.modality, 100)
    if backbone.config.modality is Modality.IMAGE and "vit" not in backbone.config.architecture:
        with pytest.raises(InvalidParameter, match="partial or full"):
            plan(Strategy.LORA, backbone, recipe)
        return
    planned = plan(Strategy.LORA, backbone, recipe)
    backbone.eval()
    torch.testing.assert_close(pooled(backbone, batch), wanted_BD)
    assert learning(backbone) == {name for group in planned.groups for name in group.parameters}
    assert all("lora_" in name for name in learning(backbone))

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for group in planned.groups:
            for parameter in group.parameters.values():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
    moved_BD = pooled(backbone, batch)
    assert not torch.allclose(moved_BD, wanted_BD, atol=1e-5)  # little, where branches are scaled down
    planned.finish()
    torch.testing.assert_close(pooled(backbone, batch), moved_BD, atol=1e-4, rtol=1e-4)
    after = backbone.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all(after[name].ndim == 2 for name in changed)
