"""A pretrained network that turns prepared inputs into features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from models.features import FeatureKind, Features

if TYPE_CHECKING:
    from torch import nn

    from models.batch import Batch
    from models.layer_groups import LayerGroup


class Modality(StrEnum):
    """What a backbone reads."""

    IMAGE = "image"
    TEXT = "text"


class BackboneConfig(BaseModel):
    """All that is needed to build a backbone's architecture again; its weights lie beside it.

    Attributes:
        source: the name that the user asked for, such as ``timm:resnet50``.
        library: who builds the architecture; ``graftwork`` is for those of our own.
        architecture: that library's name for it.
        modality: what the backbone reads.
        feature_dim: D, the length of one feature vector.
        options: the library's own configuration (timm ``model_args``, a transformers ``config.json``).
        pooling: text only: how token vectors become one vector.
        normalize: text only: whether the pooled vector is scaled to length 1.
        max_tokens: text only: how many tokens have a position; None where nothing in the architecture bounds them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    library: Literal["timm", "transformers", "graftwork"]
    architecture: str
    modality: Modality
    feature_dim: int
    options: dict[str, Any] = {}
    pooling: Literal["none", "mean", "first", "last"] = "none"
    normalize: bool = False
    max_tokens: int | None = None

    def to_json(self) -> bytes:
        """The canonical form: equal configurations give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1).encode()


class Backbone(Protocol):
    """The seam to timm and transformers: a torch module with these members.

    Attributes:
        model: the library's own module, whose state is the checkpoint's.
    """

    config: BackboneConfig
    model: nn.Module

    def forward(self, batch: Batch, kind: FeatureKind) -> Features:
        """Features of a batch whose tensors are on the backbone's device."""
        ...

    def layer_groups(self) -> Sequence[LayerGroup]:
        """Every parameter once, grouped from input to output."""
        ...


def backbone_digest(files: Mapping[str, bytes | str]) -> str:
    """What identifies a backbone: sha256 over the names and sha256 sums of its files, in order of name.

    Args:
        files: from file name to its bytes, or to its sha256 in hex.
    """
    digest = hashlib.sha256()
    for name, value in sorted(files.items()):
        file_digest = value if isinstance(value, str) else hashlib.sha256(value).hexdigest()
        digest.update(f"{name}\0{file_digest}\n".encode())
    return digest.hexdigest()
