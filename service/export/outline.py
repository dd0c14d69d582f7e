"""Which tensors go into an exported version, and which come out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from models.task import Task
from service.triton.backbone_model import BackboneModel, TensorSpec

if TYPE_CHECKING:
    from models.backbone import BackboneConfig
    from models.manifest import Manifest

SECOND = "pair_"  # begins the names of the second text's tensors, where a pair is two rows


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Names, types and shapes, in the order of a graph's inputs and outputs.

    Attributes:
        inputs: those of the backbone; of pairs that are two rows, twice.
        outputs: ``logits`` before the temperature, ``probabilities`` after it and the activation of the task, and the
            ``embedding`` that the head reads; ``score`` in place of the first two for a regression; of an embedding the last one.
            For token classification each has an axis of tokens.
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]

    @classmethod
    def of_backbone(cls, model: BackboneModel) -> Outline:
        """That of a backbone alone."""
        return cls(inputs=model.inputs, outputs=[model.output])

    @classmethod
    def of_version(cls, manifest: Manifest, config: BackboneConfig) -> Outline:
        """That of a whole version."""
        inputs = list(BackboneModel.of(manifest.backbone.digest, config, manifest.kind).inputs)
        if manifest.pair == "separate":
            inputs += [TensorSpec(name=SECOND + each.name, datatype=each.datatype, dims=each.dims) for each in inputs]
        classes, width = len(manifest.labels), manifest.head_dim
        sizes = {"logits": classes, "probabilities": classes, "embedding": width}
        if manifest.task is Task.EMBEDDING:
            sizes = {"embedding": width}
        elif manifest.task is Task.REGRESSION:
            sizes = {"score": 1, "embedding": width}
        tokens = (-1,) if manifest.task is Task.TOKEN_CLASSIFICATION else ()
        outputs = [TensorSpec(name=name, datatype="FP32", dims=(*tokens, size)) for name, size in sizes.items()]
        return cls(inputs=inputs, outputs=outputs)

    def document(self) -> dict[str, Any]:
        """For a report; of the dims, the batch axis is left out, and -1 varies."""
        return {"inputs": [asdict(each) for each in self.inputs], "outputs": [asdict(each) for each in self.outputs]}
