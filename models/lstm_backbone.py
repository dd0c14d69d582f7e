"""A recurrent text encoder of our own, which no checkpoint exists of: what pretraining is worth is seen beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from models.backbone import BackboneConfig
from models.batch import Batch, TextBatch
from models.features import FeatureKind, Features
from models.layer_groups import LayerGroup


class LstmEncoder(nn.Module):
    """Embeddings, and an LSTM in both directions (Hochreiter & Schmidhuber 1997; Graves & Schmidhuber 2005).

    Args:
        vocab_size: number of tokens.
        embedding_dim: length of an embedding.
        hidden_dim: length of a state in each direction; a token's vector has twice that.
        dropout: in training, of embeddings and of outputs, never from step to step (Zaremba et al. 2014).
    """

    def __init__(self, *, vocab_size: int, embedding_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.ahead = nn.LSTM(embedding_dim, hidden_dim, batch_first=True)
        self.back = nn.LSTM(embedding_dim, hidden_dim, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """The vectors of all tokens ``(B, T, D)``.

        Each text is turned round within its own length, so that neither direction meets padding before the text. Packed
        sequences would do the same, but wait for the lengths to come from a GPU, and OpenVINO (2026.4) gets them wrong.
        """
        length_B1 = mask_BT.sum(1, keepdim=True)
        step_1T = torch.arange(mask_BT.shape[1], device=mask_BT.device).unsqueeze(0)
        mirror_BT = torch.where(step_1T < length_B1, length_B1 - 1 - step_1T, step_1T)
        embeddings_BTE = self.dropout(self.embedding(ids_BT))
        ahead_BTH, _ = self.ahead(embeddings_BTE)
        back_BTH, _ = self.back(_taken(embeddings_BTE, mirror_BT))
        values_BTD: torch.Tensor = self.dropout(torch.cat([ahead_BTH, _taken(back_BTH, mirror_BT)], dim=2))
        return values_BTD


def _taken(values_BTN: torch.Tensor, steps_BT: torch.Tensor) -> torch.Tensor:
    return values_BTN.gather(1, steps_BT.unsqueeze(2).expand(-1, -1, values_BTN.shape[2]))


class LstmBackbone(nn.Module):
    """An `LstmEncoder` with mean pooling.

    Args:
        config: ``options`` are the encoder's arguments.
        state: the encoder's tensors.
        dropout: in training; what ``options`` says without.
    """

    def __init__(self, config: BackboneConfig, state: dict[str, torch.Tensor], *, dropout: float | None = None) -> None:
        super().__init__()
        self.config = config
        self.model = LstmEncoder(**{**config.options, **({} if dropout is None else {"dropout": dropout})})
        self.model.load_state_dict(state, strict=True)
        self.eval()

    def forward(self, batch: Batch, kind: FeatureKind) -> Features:
        assert isinstance(batch, TextBatch)
        values_BTD = self.model(batch.ids_BT, batch.mask_BT)
        if kind is FeatureKind.TOKENS:
            return Features(kind=kind, values=values_BTD, mask_BT=batch.mask_BT)
        weight_BT1 = batch.mask_BT.unsqueeze(2).to(values_BTD.dtype)
        return Features(kind=kind, values=(values_BTD * weight_BT1).sum(1) / weight_BT1.sum(1))

    def layer_groups(self) -> Sequence[LayerGroup]:
        """Embeddings, then both directions as one."""
        groups: dict[str, dict[str, nn.Parameter]] = {"embeddings": {}, "lstm": {}}
        for name, parameter in self.named_parameters():
            groups["embeddings" if name.startswith("model.embedding.") else "lstm"][name] = parameter
        return [LayerGroup(name=name, parameters=each) for name, each in groups.items()]
