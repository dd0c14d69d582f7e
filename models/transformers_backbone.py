"""Text encoders of transformers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from models.backbone import BackboneConfig
from models.batch import Batch, TextBatch
from models.features import FeatureKind, Features


class TransformersBackbone(nn.Module):
    """An encoder of transformers with pooling.

    Args:
        config: ``options`` is the checkpoint's ``config.json``; ``pooling`` and ``normalize`` say how token vectors
            become one (sentence-transformers, ``1_Pooling`` and ``2_Normalize``).
        state: the model's tensors.
    """

    def __init__(self, config: BackboneConfig, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.config = config
        self.model = build_encoder(config.options)
        self.model.load_state_dict(state, strict=True)
        self.takes_segments = "token_type_ids" in inspect.signature(self.model.forward).parameters
        self.eval()

    def forward(self, batch: Batch, kind: FeatureKind) -> Features:
        assert isinstance(batch, TextBatch)
        inputs = {"input_ids": batch.ids_BT, "attention_mask": batch.mask_BT}
        if self.takes_segments:
            inputs["token_type_ids"] = batch.segments_BT
        values_BTD = self.model(**inputs).last_hidden_state
        if kind is FeatureKind.TOKENS:
            return Features(kind=kind, values=values_BTD, mask_BT=batch.mask_BT)
        values_BD = self._pool(values_BTD, batch.mask_BT)
        if self.config.normalize:
            values_BD = nn.functional.normalize(values_BD, dim=1)
        return Features(kind=kind, values=values_BD)

    def _pool(self, values_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        if self.config.pooling == "first":
            return values_BTD[:, 0]
        if self.config.pooling == "last":
            last_B = mask_BT.sum(1) - 1
            return values_BTD[torch.arange(len(values_BTD), device=values_BTD.device), last_B]
        weight_BT1 = mask_BT.unsqueeze(2).to(values_BTD.dtype)
        return (values_BTD * weight_BT1).sum(1) / weight_BT1.sum(1)

    def layer_groups(self) -> Sequence[Sequence[nn.Parameter]]:
        """Embeddings first, then each layer of the encoder, then whatever stands behind it."""
        layers: list[list[nn.Parameter]] = []
        stack = next(module for module in self.model.modules() if isinstance(module, nn.ModuleList) and len(module) > 0)
        in_stack = {id(p) for p in stack.parameters()}
        names = list(self.model.named_parameters())
        first = next(i for i, (_, p) in enumerate(names) if id(p) in in_stack)
        layers.append([p for _, p in names[:first]])
        layers.extend(list(layer.parameters()) for layer in stack)
        layers.append([p for _, p in names[first:] if id(p) not in in_stack])
        return [group for group in layers if group]


def build_encoder(options: Mapping[str, Any]) -> Any:
    """An encoder of transformers with random weights, fp32, without its pooler.

    Args:
        options: a checkpoint's ``config.json``; what it says of precision, kernels and code of its own is not followed.

    Raises:
        Exception: transformers raises nearly anything when it has no such model.
    """
    ignored = {"model_type", "dtype", "torch_dtype", "attn_implementation", "auto_map"}
    config = AutoConfig.for_model(options["model_type"], **{k: v for k, v in options.items() if k not in ignored})
    model = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    if hasattr(model, "pooler"):
        model.pooler = None  # no part of mean, first- or last-token pooling
    return model
