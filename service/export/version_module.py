"""A whole version as one torch module: backbone, head, temperature and activation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from models.graph import torch_graph
from models.head import Head
from models.head_inputs import combine_pairs
from models.task import Task
from service.export.subject import Subject


class VersionModule(nn.Module):
    """What is traced: tensors of `service.export.outline.Outline` in, tensors out."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.features = torch_graph(subject.backbone, subject.example, subject.kind)
        self.head = None if subject.predictor.task is Task.EMBEDDING else head_layers(subject.predictor.head)
        self.activation = subject.predictor.head.activation
        self.temperature = subject.predictor.calibration.temperature
        self.is_separate = subject.is_separate
        self.eval()

    def forward(self, *inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        embedding = self._embedding(inputs)
        if self.head is None:
            return (embedding,)
        logits = self.head(embedding)
        scores = logits / self.temperature
        if self.activation == "identity":
            return scores, embedding
        scores = scores.softmax(dim=-1) if self.activation == "softmax" else scores.sigmoid()
        return logits, scores, embedding

    def _embedding(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        if not self.is_separate:
            values: torch.Tensor = self.features(*inputs)
            return values
        half = len(inputs) // 2
        return combine_pairs(self.features(*inputs[:half]), self.features(*inputs[half:]))


def head_layers(head: Head) -> nn.Module:
    """A head as layers of torch, from features to logits."""
    if head.hidden is None:
        return _linear(head.weight_CD, head.bias_C)
    return nn.Sequential(
        _linear(head.hidden.weight_HD, head.hidden.bias_H), nn.ReLU(), _linear(head.weight_CD, head.bias_C)
    )


def _linear(weight_CD: torch.Tensor, bias_C: torch.Tensor) -> nn.Linear:
    with torch.device("meta"):
        layer = nn.Linear(weight_CD.shape[1], len(bias_C))
    layer.weight = nn.Parameter(weight_CD, requires_grad=False)
    layer.bias = nn.Parameter(bias_C, requires_grad=False)
    return layer
