"""A pretrained checkpoint in memory, and what reading one has in common for all families."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.backbone import BackboneConfig
from models.errors import BackboneNotFound
from models.preprocessor import ImagePreprocessorConfig, TextPreprocessorConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A checkpoint's own linear classifier on pooled features."""

    weight_CD: torch.Tensor
    bias_C: torch.Tensor
    labels: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A pretrained checkpoint, read into memory.

    Attributes:
        config: the backbone's architecture.
        state: the backbone's tensors by name, without a classifier.
        preprocessor: from the checkpoint's own data config.
        tokenizer_json: text only: the contents of ``tokenizer.json``.
        classifier: the checkpoint's own head, where it has one.
    """

    config: BackboneConfig
    state: dict[str, torch.Tensor]
    preprocessor: ImagePreprocessorConfig | TextPreprocessorConfig
    tokenizer_json: bytes | None = None
    classifier: Classifier | None = field(default=None, repr=False)


def check_fit(name: str, wanted: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    """Raises `BackboneNotFound` unless every wanted tensor is there in its shape."""
    for key, tensor in wanted.items():
        if key not in state:
            raise BackboneNotFound(f"the weights of '{name}' do not fit its architecture: {key} is missing")
        if state[key].shape != tensor.shape:
            raise BackboneNotFound(
                f"the weights of '{name}' do not fit its architecture: {key} is {tuple(state[key].shape)}, not "
                f"{tuple(tensor.shape)}"
            )


def read_safetensors(name: str, file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file; raises `BackboneNotFound` where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise BackboneNotFound(f"'{name}' has no {file.name}; other weight formats are not read")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise BackboneNotFound(f"the {file.name} of '{name}' is damaged: {error}") from None


def read_json(name: str, file: Path) -> Any:
    """A JSON document of a checkpoint; raises `BackboneNotFound` where it is missing or damaged."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        raise BackboneNotFound(f"'{name}' has no readable {file.name}") from None
