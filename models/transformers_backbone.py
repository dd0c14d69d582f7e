"""Text encoders of transformers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

from models.backbone import BackboneConfig
from models.batch import Batch, TextBatch
from models.errors import InvalidParameter
from models.features import FeatureKind, Features
from models.layer_groups import LayerGroup, numbered_layers

T5_FAMILY = ("t5", "mt5", "umt5")  # whose encoder is of use without the decoder, which AutoModel would build too


class TransformersBackbone(nn.Module):
    """An encoder of transformers with pooling.

    Args:
        config: ``options`` is the checkpoint's ``config.json``; ``pooling`` and ``normalize`` say how token vectors
            become one (sentence-transformers, ``1_Pooling`` and ``2_Normalize``).
        state: the model's tensors.
        dropout: in training; what ``options`` says without.

    Raises:
        InvalidParameter: the model drops nothing.
    """

    def __init__(self, config: BackboneConfig, state: dict[str, torch.Tensor], *, dropout: float | None = None) -> None:
        super().__init__()
        self.config = config
        self.model = build_encoder(config.options, dropout=dropout)
        self.model.load_state_dict(state, strict=True)
        # Without two embeddings of their own, segments are no input: GPT-2 would add the embeddings of tokens 0 and 1.
        self.takes_segments = (
            "token_type_ids" in inspect.signature(self.model.forward).parameters
            and getattr(self.model.config, "type_vocab_size", 0) > 1
        )
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
            last_B11 = mask_BT.sum(1).view(-1, 1, 1) - 1
            return values_BTD.gather(1, last_B11.expand(-1, 1, values_BTD.shape[2])).squeeze(1)
        weight_BT1 = mask_BT.unsqueeze(2).to(values_BTD.dtype)
        return (values_BTD * weight_BT1).sum(1) / weight_BT1.sum(1)

    def layer_groups(self) -> Sequence[LayerGroup]:
        """Embeddings, then each layer of the encoder, then whatever stands behind it."""
        # The distances that every layer of MPNet and DeBERTa reads stand behind the layers.
        embeddings = [path for path, module in self.named_modules() if isinstance(module, nn.Embedding)]
        inputs = {f"{path}.weight" for path in embeddings}
        return numbered_layers(self.named_parameters(), first="embeddings", inputs=inputs)


def build_encoder(options: Mapping[str, Any], *, dropout: float | None = None) -> Any:
    """An encoder of transformers with random weights, fp32, without its pooler or its decoder.

    Args:
        options: a checkpoint's ``config.json``; what it says of precision, kernels and code of its own is not followed.
        dropout: in training, instead of what ``options`` says.

    Raises:
        InvalidParameter: the model drops nothing.
        Exception: transformers raises nearly anything when it has no such model.
    """
    ignored = {"model_type", "dtype", "torch_dtype", "attn_implementation", "auto_map"}
    config = AutoConfig.for_model(options["model_type"], **{k: v for k, v in options.items() if k not in ignored})
    config.use_cache = False  # of a decoder, for texts that go on
    if dropout is not None:
        _set_dropout(config, dropout)
    library: Any = AutoModelForTextEncoding if config.model_type in T5_FAMILY else AutoModel
    model = library.from_config(config, dtype=torch.float32, trust_remote_code=False)
    if config.model_type in T5_FAMILY:
        model = model.encoder
    if hasattr(model, "pooler"):
        model.pooler = None  # no part of mean, first- or last-token pooling
    return model


def is_causal(encoder: Any) -> bool:
    """Whether a token sees only those before it, so that the last one has seen the whole text: GPT-2, Llama, Qwen."""
    return any(getattr(module, "is_causal", False) is True for module in encoder.modules())


def _set_dropout(config: Any, dropout: float) -> None:
    """Sets all probabilities of dropout; every family has its own names for them (``attn_pdrop``, ``dropout_rate``)."""
    found = [
        name
        for name, value in config.to_dict().items()
        if ("dropout" in name or name.endswith("pdrop"))
        and not name.startswith(("classifier", "summary"))
        and isinstance(value, (int, float))
    ]
    if dropout > 0 and not found:
        raise InvalidParameter(f"a '{config.model_type}' has no dropout; leave it out")
    for name in found:
        setattr(config, name, dropout)
