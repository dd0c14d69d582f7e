"""A backbone as a model of NVIDIA Triton: what an export writes is what the remote engine asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.backbone import BackboneConfig, Modality
from models.features import FeatureKind

DIGEST_PARAMETER = "graftwork_backbone"  # in config.pbtxt: the whole digest, of which the name has the beginning
VERSION = "1"  # a backbone never changes: another one has another name
FEATURES = "features"


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A tensor of a Triton model.

    Attributes:
        dims: of one row, -1 where it varies; the batch axis comes before them.
    """

    name: str
    datatype: Literal["UINT8", "INT64", "FP32"]
    dims: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class BackboneModel:
    """What Triton calls a backbone, and what goes in and out.

    Attributes:
        digest: of the backbone.
        inputs: in the order of `models.graph.graph_inputs`.
        output: pooled features ``(B, D)``, or those of tokens ``(B, T, D)``; always fp32.
    """

    name: str
    digest: str
    inputs: tuple[TensorSpec, ...]
    output: TensorSpec

    @classmethod
    def of(cls, digest: str, config: BackboneConfig, kind: FeatureKind = FeatureKind.POOLED) -> BackboneModel:
        """The model of a backbone, for one kind of features."""
        inputs: tuple[TensorSpec, ...]
        if config.modality is Modality.IMAGE:
            inputs = (TensorSpec(name="pixels", datatype="UINT8", dims=tuple(config.options["input_size"])),)
        else:
            names = ("input_ids", "token_type_ids", "attention_mask")
            inputs = tuple(TensorSpec(name=name, datatype="INT64", dims=(-1,)) for name in names)
        dims = (config.feature_dim,) if kind is FeatureKind.POOLED else (-1, config.feature_dim)
        return cls(
            name=f"backbone-{digest[:16]}-{kind}",
            digest=digest,
            inputs=inputs,
            output=TensorSpec(name=FEATURES, datatype="FP32", dims=dims),
        )
