"""Vision backbones of timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from posixpath import commonpath
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import nn

from models.backbone import BackboneConfig
from models.batch import Batch, ImageBatch
from models.errors import InvalidParameter
from models.features import FeatureKind, Features
from models.layer_groups import LayerGroup, numbered_layers, whole_layers


class TimmBackbone(nn.Module):
    """A timm model without its classifier; pixels are normalised inside.

    Args:
        config: ``architecture`` is timm's name; ``options`` holds ``model_args``, ``input_size``, ``mean`` and
            ``std``.
        state: the model's tensors, without the classifier's.
        dropout: in training; the architecture's own without.
        drop_path: likewise.

    Raises:
        InvalidParameter: the architecture drops nothing.
    """

    def __init__(
        self,
        config: BackboneConfig,
        state: dict[str, torch.Tensor],
        *,
        dropout: float | None = None,
        drop_path: float | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.model = _build(config, dropout, drop_path)
        self.model.load_state_dict(state, strict=True)
        self.eval()
        scale = 255.0
        mean = torch.tensor(config.options["mean"]).view(1, -1, 1, 1) * scale
        std = torch.tensor(config.options["std"]).view(1, -1, 1, 1) * scale
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    mean: torch.Tensor
    std: torch.Tensor

    def forward(self, batch: Batch, kind: FeatureKind) -> Features:
        assert isinstance(batch, ImageBatch)
        pixels_BCHW = (batch.pixels_BCHW.to(self.mean.dtype) - self.mean) / self.std
        pixels_BCHW = pixels_BCHW.contiguous(memory_format=torch.channels_last)
        if kind is FeatureKind.POOLED:
            return Features(kind=kind, values=self.model(pixels_BCHW))
        values_BTD = self.model.forward_features(pixels_BCHW)
        if values_BTD.ndim == 4:  # a map is a grid of H * W tokens; Swin's has its channels last
            is_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            values_BTD = values_BTD.flatten(1, 2) if is_last else values_BTD.flatten(2).transpose(1, 2)
        mask_BT = torch.ones(values_BTD.shape[:2], dtype=torch.int64, device=values_BTD.device)
        return Features(kind=kind, values=values_BTD, mask_BT=mask_BT)

    def layer_groups(self) -> Sequence[LayerGroup]:
        """timm's own grouping where it has one: the stages of a convolutional network, the blocks of a transformer."""
        try:
            matcher = self.model.group_matcher(coarse=True)
        except (AttributeError, AssertionError):  # PoolFormer and PiT have none, RDNet one of single blocks only
            return numbered_layers(self.named_parameters(), first="stem")
        by_group = group_parameters(self.model, matcher)
        named = dict(self.model.named_parameters())
        groups = [by_group[key] for key in sorted(by_group)]
        return whole_layers(
            LayerGroup(name=name, parameters={f"model.{parameter}": named[parameter] for parameter in group})
            for name, group in zip(_names(groups), groups, strict=True)
        )


def _names(groups: Sequence[Sequence[str]]) -> Sequence[str]:
    """For each group the module that its first parameter shares with those near it, or the part of that module it is in."""
    shared, own = [], []
    for group in groups:
        modules = [PurePosixPath((name.rpartition(".")[0] or name).replace(".", "/")) for name in group]
        first = modules[0].parts
        depth = len(PurePosixPath(commonpath([each for each in modules if each.parts[0] == first[0]])).parts)
        shared.append(".".join(first[:depth]))
        own.append(".".join(first[: depth + 1]))
    return ["stem", *[name if shared.count(name) == 1 else part for name, part in zip(shared, own, strict=True)][1:]]


def _build(config: BackboneConfig, dropout: float | None, drop_path: float | None) -> Any:
    rates = {"drop_rate": dropout, "drop_path_rate": drop_path}
    model_args = {**config.options.get("model_args", {}), **{k: rate for k, rate in rates.items() if rate is not None}}
    # A transformer has a position for each patch of the size that the checkpoint's own data config names.
    input_size = config.options.get("input_size")
    try:
        return build_timm_model(config.architecture, model_args, {"input_size": input_size} if input_size else None)
    except TypeError as error:
        if drop_path is None or "'drop_path_rate'" not in str(error):
            raise
        if drop_path > 0:
            raise InvalidParameter(f"{config.source} drops no residual branches; leave drop_path out") from None
        return _build(config, dropout, None)


def build_timm_model(
    architecture: str, model_args: Mapping[str, Any], pretrained_cfg: dict[str, Any] | None = None
) -> Any:
    """A timm model with random weights and without its classifier.

    timm's factory also follows ``hf-hub:`` and ``local-dir:`` names, and reads the file in ``checkpoint_path``, be it a
    pickle; a configuration that came with a checkpoint gets neither.

    Args:
        architecture: timm's name for it, with or without the tag of its weights.
        model_args: further arguments of the architecture.
        pretrained_cfg: what replaces fields of timm's own data config.

    Raises:
        RuntimeError, TypeError, ValueError: timm has no such model, or it does not take these arguments.
    """
    if not timm.is_model(architecture):
        raise ValueError(f"timm has no model '{architecture}'")
    return timm.create_model(
        architecture,
        pretrained=False,
        num_classes=0,
        pretrained_cfg_overlay=pretrained_cfg,
        checkpoint_path=None,  # given here, so that model_args cannot
        **model_args,
    )
