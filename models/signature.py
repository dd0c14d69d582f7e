"""What a version reads and gives as named tensors, in the terms of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from models.backbone import Modality
from models.manifest import Manifest
from models.preprocessor import ImagePreprocessorConfig
from models.task import Task

Datatype: TypeAlias = Literal["BOOL", "UINT8", "FP32", "BYTES"]

# Inputs.
IMAGE = "image"
PIXEL_VALUES = "pixel_values"
TEXT = "text"
TEXT_PAIR = "text_pair"

# Outputs.
PROBABILITIES = "probabilities"
LOGITS = "logits"
LABEL = "label"
HOLDS = "holds"
VALUE = "value"
INTERVAL = "interval"
ENTITIES = "entities"
EMBEDDING = "embedding"


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A tensor by name.

    Attributes:
        shape: of all rows; the first axis, of any length, is -1.
        also: another datatype that is taken.
        labels: of the classes that its last axis stands for, where it does.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...] = (-1,)
    also: Datatype | None = None
    labels: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Signature:
    """The tensors of a version; each is itself only, so that it can be the key of what is known about it.

    Attributes:
        inputs: all of which are needed, unless ``alternatives``.
        outputs: in the order in which they are given.
        alternatives: any one of the inputs is a request.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    alternatives: bool = False

    def input(self, name: str) -> TensorSpec | None:
        """An input by name."""
        return self._inputs_by_name.get(name)

    def output(self, name: str) -> TensorSpec | None:
        """An output by name."""
        return next((spec for spec in self.outputs if spec.name == name), None)

    @cached_property
    def _inputs_by_name(self) -> Mapping[str, TensorSpec]:
        return {spec.name: spec for spec in self.inputs}


def signature(manifest: Manifest) -> Signature:
    """That of a version.

    Images are ``image``, whole files, or ``pixel_values``: pixels that are resized and cropped already, as UINT8, or in FP32
    normalised as the backbone's checkpoint has it. Texts are UTF-8.

    Logits are divided by the temperature, so that their softmax (or sigmoid) is ``probabilities``; ``embedding`` is what the
    head reads of the row, or would. ``entities`` holds one JSON list a text. Pairs that are read as two texts have no embedding of one.
    """
    return Signature(
        inputs=_inputs(manifest), outputs=tuple(_outputs(manifest)), alternatives=manifest.modality is Modality.IMAGE
    )


def _inputs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    if isinstance(manifest.preprocessor, ImagePreprocessorConfig):
        size = manifest.preprocessor.input_size
        pixels = TensorSpec(name=PIXEL_VALUES, datatype="FP32", shape=(-1, *size), also="UINT8")
        return TensorSpec(name=IMAGE, datatype="BYTES"), pixels
    names = (TEXT,) if manifest.pair is None else (TEXT, TEXT_PAIR)
    return tuple(TensorSpec(name=name, datatype="BYTES") for name in names)


def _outputs(manifest: Manifest) -> list[TensorSpec]:
    classes, labels = (-1, len(manifest.labels)), manifest.labels
    match manifest.task:
        case Task.TOKEN_CLASSIFICATION:
            return [TensorSpec(name=ENTITIES, datatype="BYTES")]
        case Task.EMBEDDING:
            found = []
        case Task.REGRESSION:
            found = [
                TensorSpec(name=VALUE, datatype="FP32"),
                TensorSpec(name=INTERVAL, datatype="FP32", shape=(-1, 2)),
            ]
        case _:
            found = [
                TensorSpec(name=PROBABILITIES, datatype="FP32", shape=classes, labels=labels),
                TensorSpec(name=LOGITS, datatype="FP32", shape=classes, labels=labels),
                TensorSpec(name=HOLDS, datatype="BOOL", shape=classes, labels=labels)
                if manifest.task is Task.MULTI_LABEL
                else TensorSpec(name=LABEL, datatype="BYTES"),
            ]
    if manifest.pair != "separate":
        found.append(TensorSpec(name=EMBEDDING, datatype="FP32", shape=(-1, manifest.backbone.feature_dim)))
    return found
