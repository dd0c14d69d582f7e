"""Vision backbones: shapes, layer groups, rows that do not see each other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from timm.layers import DropPath

from models.backbone import BackboneConfig, Modality
from models.batch import ImageBatch
from models.errors import InvalidParameter
from models.features import FeatureKind
from models.timm_backbone import TimmBackbone, build_timm_model

ARCHITECTURES = ["test_efficientnet", "test_vit", "test_resnet", "test_convnext"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def backbone(request: pytest.FixtureRequest) -> TimmBackbone:
    torch.manual_seed(0)
    model: Any = timm.create_model(request.param, pretrained=False, num_classes=0)
    options = {"model_args": {}, "input_size": [3, 160, 160], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    config = BackboneConfig(
        source=f"timm:{request.param}",
        library="timm",
        architecture=request.param,
        modality=Modality.IMAGE,
        feature_dim=model.num_features,
        options=options,
    )
    return TimmBackbone(config, model.state_dict())


@pytest.fixture(scope="module")
def batch() -> ImageBatch:
    torch.manual_seed(1)
    return ImageBatch(pixels_BCHW=torch.randint(0, 256, (5, 3, 160, 160), dtype=torch.uint8))


def values(backbone: TimmBackbone, pixels_BCHW: torch.Tensor, kind: FeatureKind = FeatureKind.POOLED) -> torch.Tensor:
    with torch.inference_mode():
        return backbone(ImageBatch(pixels_BCHW=pixels_BCHW), kind).values


def test_pooled_features(backbone: TimmBackbone, batch: ImageBatch) -> None:
    with torch.inference_mode():
        features = backbone(batch, FeatureKind.POOLED)
    assert features.values.shape == (5, backbone.config.feature_dim)
    assert features.values.dtype == torch.float32
    assert features.values.isfinite().all()
    assert features.mask_BT is None


def test_token_features(backbone: TimmBackbone, batch: ImageBatch) -> None:
    with torch.inference_mode():
        features = backbone(batch, FeatureKind.TOKENS)
    assert features.values.ndim == 3
    assert features.values.shape[0] == 5
    assert features.mask_BT is not None
    assert features.mask_BT.shape == features.values.shape[:2]
    assert bool(features.mask_BT.all())
    assert features.mask_BT.dtype == torch.int64


def test_the_mask_of_tokens_is_where_they_are(backbone: TimmBackbone) -> None:
    elsewhere = copy.deepcopy(backbone).to("meta")
    features = elsewhere(
        ImageBatch(pixels_BCHW=torch.zeros(1, 3, 160, 160, dtype=torch.uint8, device="meta")), FeatureKind.TOKENS
    )
    assert features.mask_BT is not None
    assert features.mask_BT.device == features.values.device == torch.device("meta")


def test_a_convolutional_map_is_a_grid_of_tokens_row_by_row(batch: ImageBatch) -> None:
    model = build_timm_model("test_resnet", {})
    config = BackboneConfig(
        source="timm:test_resnet",
        library="timm",
        architecture="test_resnet",
        modality=Modality.IMAGE,
        feature_dim=model.num_features,
        options={"mean": [0, 0, 0], "std": [1, 1, 1]},
    )
    backbone = TimmBackbone(config, model.state_dict())
    with torch.inference_mode():
        map_BDHW = backbone.model.forward_features(batch.pixels_BCHW / 255)
    values_BTD = values(backbone, batch.pixels_BCHW, FeatureKind.TOKENS)
    width = map_BDHW.shape[3]
    torch.testing.assert_close(values_BTD[:, width + 1], map_BDHW[:, :, 1, 1])
    torch.testing.assert_close(values_BTD.mean(1), values(backbone, batch.pixels_BCHW), atol=1e-5, rtol=1e-4)


def test_a_map_with_channels_last_is_a_grid_of_tokens_too(batch: ImageBatch) -> None:
    model_args = {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 5}
    model = build_timm_model("swin_tiny_patch4_window7_224", model_args, {"input_size": [3, 160, 160]})
    config = BackboneConfig(
        source="timm:swin_tiny_patch4_window7_224",
        library="timm",
        architecture="swin_tiny_patch4_window7_224",
        modality=Modality.IMAGE,
        feature_dim=model.num_features,
        options={"model_args": model_args, "input_size": [3, 160, 160], "mean": [0.0] * 3, "std": [1.0] * 3},
    )
    backbone = TimmBackbone(config, model.state_dict())
    values_BTD = values(backbone, batch.pixels_BCHW, FeatureKind.TOKENS)
    assert values_BTD.shape == (5, 20 * 20, 32)
    torch.testing.assert_close(values_BTD.mean(1), values(backbone, batch.pixels_BCHW), atol=1e-5, rtol=1e-4)


def test_pixels_are_normalised_inside(backbone: TimmBackbone, batch: ImageBatch) -> None:
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    with torch.inference_mode():
        wanted = backbone.model((batch.pixels_BCHW / 255 - mean) / std)
    torch.testing.assert_close(values(backbone, batch.pixels_BCHW), wanted, atol=1e-4, rtol=1e-4)


def test_a_row_does_not_see_its_batch_mates(backbone: TimmBackbone, batch: ImageBatch) -> None:
    together = values(backbone, batch.pixels_BCHW)
    for row in range(len(together)):
        torch.testing.assert_close(
            values(backbone, batch.pixels_BCHW[row : row + 1])[0], together[row], atol=1e-5, rtol=0
        )
    backwards = values(backbone, batch.pixels_BCHW.flip(0)).flip(0)
    torch.testing.assert_close(backwards, together, atol=1e-5, rtol=0)


def test_layer_groups_hold_every_parameter_once(backbone: TimmBackbone) -> None:
    grouped = [(name, id(p)) for group in backbone.layer_groups() for name, p in group.parameters.items()]
    assert len(grouped) == len(dict(grouped))
    assert dict(grouped) == {name: id(parameter) for name, parameter in backbone.named_parameters()}
    assert [group.name for group in backbone.layer_groups()][:1] == ["stem"]


def test_layer_groups_go_from_input_to_output(backbone: TimmBackbone) -> None:
    """Modules run in the order of their groups."""
    groups = backbone.layer_groups()
    group_of = {id(p): index for index, group in enumerate(groups) for p in group.parameters.values()}
    assert len(set(group_of.values())) >= 3
    seen: list[int] = []

    def note(module: torch.nn.Module, *_: object) -> None:
        seen.extend(group_of[id(p)] for p in module.parameters(recurse=False))

    hooks = [module.register_forward_hook(note) for module in backbone.modules()]
    values(backbone, torch.zeros(1, 3, 160, 160, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    first_run = list(dict.fromkeys(seen))
    assert first_run == sorted(first_run)
    assert first_run == list(range(len(backbone.layer_groups())))


def test_values_and_branches_are_dropped_in_training_only(backbone: TimmBackbone, batch: ImageBatch) -> None:
    def trained(**rates: float) -> TimmBackbone:
        built = TimmBackbone(backbone.config, backbone.model.state_dict(), **rates)
        assert built.config == backbone.config
        torch.testing.assert_close(values(built, pixels_BCHW), wanted_BD, atol=0, rtol=0)
        for module in built.modules():  # normalisation by the batch would change features too
            module.train(not isinstance(module, torch.nn.BatchNorm2d))
        return built

    pixels_BCHW = batch.pixels_BCHW[:2]
    wanted_BD = values(backbone, pixels_BCHW)
    assert not torch.allclose(values(trained(dropout=0.5), pixels_BCHW), wanted_BD, atol=1e-5)
    # Fresh branches of some architectures add nothing yet, so their loss cannot be seen.
    shares = [module.drop_prob for module in trained(drop_path=0.4).modules() if isinstance(module, DropPath)]
    assert 0.2 < max(share or 0 for share in shares) < 0.41
    torch.testing.assert_close(values(trained(dropout=0.0, drop_path=0.0), pixels_BCHW), wanted_BD, atol=0, rtol=0)


def test_what_has_no_residual_branches_drops_none() -> None:
    model = build_timm_model("vgg11", {"mlp_ratio": 0.001})
    options = {"model_args": {"mlp_ratio": 0.001}, "mean": [0.0] * 3, "std": [1.0] * 3}
    config = BackboneConfig(
        source="timm:vgg11",
        library="timm",
        architecture="vgg11",
        modality=Modality.IMAGE,
        feature_dim=4096,
        options=options,
    )
    assert TimmBackbone(config, model.state_dict(), dropout=0.1, drop_path=0.0).model.drop_rate == 0.1
    with pytest.raises(InvalidParameter, match="leave drop_path out"):
        TimmBackbone(config, model.state_dict(), drop_path=0.1)


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("densenet121", ("stem", *(f"features.denseblock{index}" for index in (1, 2, 3, 4)))),
        ("poolformer_s12", ("stem", "stages.0", "stages.1", "stages.2", "stages.3")),
        ("rdnet_tiny", ("stem.0", *(f"dense_stages.{index}" for index in range(7)))),
    ],
)
def test_groups_that_timm_has_no_names_for(architecture: str, names: tuple[str, ...]) -> None:
    with torch.device("meta"):
        model = build_timm_model(architecture, {})
    backbone = object.__new__(TimmBackbone)
    torch.nn.Module.__init__(backbone)
    backbone.model = model
    groups = backbone.layer_groups()
    assert tuple(group.name for group in groups) == names
    assert sum(len(group.parameters) for group in groups) == len(list(backbone.parameters()))


def test_the_builder_takes_tags_and_arguments_and_nothing_else() -> None:
    assert build_timm_model("test_vit.r160_in1k", {"img_size": 96}).patch_embed.img_size == (96, 96)
    with pytest.raises(ValueError, match="no model 'hf-hub:a/b'"):
        build_timm_model("hf-hub:a/b", {})
    for model_args in ({"checkpoint_path": "x.pth"}, {"pretrained": True}, {"num_classes": 3}):
        with pytest.raises(TypeError):
            build_timm_model("test_vit", model_args)
