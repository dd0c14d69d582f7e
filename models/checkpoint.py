"""Pretrained checkpoints by name: from a package, a directory, the local cache or, when the network allows it, the hub.

    timm:resnet50            a timm model with its default weights
    hf:bert-base-uncased     an encoder of transformers
    dir:/path                either of them, as a directory in the hub's layout (config.json, model.safetensors, ...)

No code that comes with a checkpoint is ever run, and weights are read from safetensors only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import embedded
from models.backbone import BackboneConfig
from models.errors import BackboneNotFound, did_you_mean
from models.hub import hub_directory
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


def fetch_checkpoint(name: str) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        name: ``timm:MODEL``, ``hf:REPOSITORY`` or ``dir:PATH``.

    Raises:
        BackboneNotFound: an unknown name, with near matches; or a known one that cannot be reached from here.
    """
    from models.timm_checkpoint import timm_by_name, timm_checkpoint
    from models.transformers_checkpoint import transformers_checkpoint

    scheme, _, rest = name.partition(":")
    if name == "timm:tf_efficientnet_lite0":
        state = embedded.read_lite0(embedded.require_embedded_directory(name))
        return timm_checkpoint(name, rest, state, overrides={})
    if rest.removeprefix("sentence-transformers/") == "all-MiniLM-L6-v2" and scheme == "hf":
        directory = embedded.require_embedded_directory("hf:all-MiniLM-L6-v2") / "model"
        embedded.read_pinned(directory / "model.safetensors", embedded.MINILM_SHA256)
        return transformers_checkpoint("hf:all-MiniLM-L6-v2", directory)
    if scheme == "timm" and rest:
        return timm_by_name(name, rest)
    if scheme == "hf" and rest:
        return transformers_checkpoint(name, hub_directory(name, rest))
    if scheme == "dir" and rest:
        return _from_directory(name, Path(rest).expanduser())
    raise BackboneNotFound(f"unknown backbone '{name}': it is named timm:MODEL, hf:REPOSITORY or dir:PATH{_hint(name)}")


def _hint(name: str) -> str:
    import timm

    for known in (*embedded.EMBEDDED, f"timm:{name}"):
        scheme, _, bare = known.partition(":")
        if bare == name and (known in embedded.EMBEDDED or timm.is_model(bare)):
            return f"; did you mean '{scheme}:{bare}'?"
    return did_you_mean(name, embedded.EMBEDDED)


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


def _from_directory(name: str, directory: Path) -> Checkpoint:
    from models.timm_checkpoint import timm_checkpoint
    from models.transformers_checkpoint import transformers_checkpoint

    if not directory.is_dir():
        raise BackboneNotFound(f"'{name}': there is no such directory")
    options = read_json(name, directory / "config.json")
    if "architecture" not in options:
        return transformers_checkpoint(name, directory)
    state = read_safetensors(name, directory / "model.safetensors")
    return timm_checkpoint(name, str(options["architecture"]), state, overrides=options)


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
