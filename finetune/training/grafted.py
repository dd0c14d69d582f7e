"""Backbone and head as one module that learns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.backbone import Modality
from models.batch import Batch, Row
from models.features import FeatureKind
from models.head import Head
from models.head_inputs import head_inputs

if TYPE_CHECKING:
    from models.backbone_store import TorchBackbone


class Grafted(nn.Module):
    """Batches to logits.

    The head learns on features that are moved to a mean of 0 and a mean square of 1, as they were before anything learnt: those
    of a network that ends with a ReLU are all positive, so that the first steps of Adam, all of one length, would move every
    logit by the sum of them. Both numbers are folded into the head again at the end.

    Args:
        backbone: what of it learns has ``requires_grad``.
        head: where the head starts.
        kind: of the features that the head reads.
    """

    def __init__(self, backbone: TorchBackbone, head: Head, kind: FeatureKind) -> None:
        super().__init__()
        self.backbone = backbone
        self._kind, self._activation = kind, head.activation
        classes, features = head.weight_CD.shape
        self.head = nn.Linear(features, classes)
        self.register_buffer("mean_D", torch.zeros(features))
        self.register_buffer("scale", torch.ones(()))
        with torch.no_grad():
            self.head.weight.copy_(head.weight_CD)
            self.head.bias.copy_(head.bias_C)
        if backbone.config.modality is Modality.IMAGE:
            self.to(memory_format=torch.channels_last)

    mean_D: torch.Tensor
    scale: torch.Tensor

    def centre(self, batch: Batch, rows: Sequence[Row]) -> None:
        """Takes mean and scale from the features of a batch; what the head gives stays the same."""
        self.eval()
        with torch.no_grad():
            (inputs,) = head_inputs(self.backbone(batch, self._kind), rows)
            mean_D = inputs.vectors_VD.float().mean(dim=0)
            scale = (inputs.vectors_VD.float() - mean_D).square().mean().sqrt().clamp_min(1e-6)
            self.head.bias += self.head.weight @ mean_D
            self.head.weight *= scale
            self.mean_D.copy_(mean_D)
            self.scale.copy_(scale)

    def forward(self, batch: Batch, rows: Sequence[Row]) -> torch.Tensor:
        """Logits ``(V, C)``, fp32, of the vectors that the head reads of a batch and its rows: see `models.head_inputs`."""
        features = self.backbone(batch, self._kind)
        (inputs,) = head_inputs(features, rows)
        logits_VC: torch.Tensor = self.head((inputs.vectors_VD.float() - self.mean_D) / self.scale)
        return logits_VC

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
        weight_CD = (self.head.weight / self.scale).detach().cpu()
        bias_C = (self.head.bias.cpu() - weight_CD @ self.mean_D.cpu()).detach()
        return Head(weight_CD=weight_CD, bias_C=bias_C, activation=self._activation)
