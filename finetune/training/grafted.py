"""Backbone and head as one module that learns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.backbone import Modality
from models.batch import Batch
from models.features import FeatureKind
from models.head import Head

if TYPE_CHECKING:
    from models.backbone_store import TorchBackbone


class Grafted(nn.Module):
    """Batches to logits.

    Args:
        backbone: what of it learns has ``requires_grad``.
        head: where the head starts.
    """

    def __init__(self, backbone: TorchBackbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        classes, features = head.weight_CD.shape
        self.head = nn.Linear(features, classes)
        with torch.no_grad():
            self.head.weight.copy_(head.weight_CD)
            self.head.bias.copy_(head.bias_C)
        if backbone.config.modality is Modality.IMAGE:
            self.to(memory_format=torch.channels_last)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits ``(B, C)``, fp32."""
        features_BD = self.backbone(batch, FeatureKind.POOLED).values
        logits_BC: torch.Tensor = self.head(features_BD.float())
        return logits_BC

    def train(self, mode: bool = True) -> Grafted:
        """As usual, but batch normalisation keeps the statistics of its pretraining.

        Batches of fine-tuning are few and small; and a row's gradient then does not depend on its batch mates, so that
        batches can be computed in parts, or by several processes, to the same result.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that learn, by name."""
        return ((name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad)

    def weights(self) -> Mapping[str, torch.Tensor]:
        """A copy of what learns."""
        return {name: parameter.detach().clone() for name, parameter in self.learning()}

    def restore(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Puts back what `weights` gave."""
        with torch.no_grad():
            for name, parameter in self.learning():
                parameter.copy_(weights[name])

    def trained_head(self) -> Head:
        """A copy of the head, on the CPU."""
        return Head(weight_CD=self.head.weight.detach().cpu().clone(), bias_C=self.head.bias.detach().cpu().clone())
