"""Vision backbones of timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import nn

from models.backbone import BackboneConfig
from models.batch import Batch, ImageBatch
from models.features import FeatureKind, Features


class TimmBackbone(nn.Module):
    """A timm model without its classifier; pixels are normalised inside.

    Args:
        config: ``architecture`` is timm's name; ``options`` holds ``model_args``, ``input_size``, ``mean`` and
            ``std``.
        state: the model's tensors, without the classifier's.
    """

    def __init__(self, config: BackboneConfig, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.config = config
        self.model = build_timm_model(config.architecture, config.options.get("model_args", {}))
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
        tokens = self.model.forward_features(pixels_BCHW)
        # A convolutional map (B, D, H, W) is a grid of H * W tokens.
        values_BTD = tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens
        return Features(kind=kind, values=values_BTD, mask_BT=torch.ones(values_BTD.shape[:2]))

    def layer_groups(self) -> Sequence[Sequence[nn.Parameter]]:
        """timm's own grouping, coarse (stages) and ordered from input to output."""
        by_group = group_parameters(self.model, self.model.group_matcher(coarse=True))
        named = dict(self.model.named_parameters())
        return [[named[name] for name in by_group[key]] for key in sorted(by_group)]


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
