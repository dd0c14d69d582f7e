"""The parameters of a backbone from input to output: one enumeration for freezing, layer-wise learning rates and progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LayerGroup:
    """Layers that are frozen, or given a learning rate, as one.

    Attributes:
        name: for people: ``stem``, ``embeddings``, or the module that holds it, such as ``blocks.3``.
        parameters: by their names in the backbone's ``named_parameters()``.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]


def whole_layers(groups: Iterable[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Joins each group without a weight matrix to the one before it.

    Such a group is a normalisation: behind a convolution (VGG with batch norm) or at the end of a transformer. Whoever trains the
    last layer means more than that.

    Args:
        groups: from input to output, none empty.
    """
    joined: list[LayerGroup] = []
    for group in groups:
        if joined and all(parameter.ndim < 2 for parameter in group.parameters.values()):
            before = joined.pop()
            group = LayerGroup(name=before.name, parameters={**before.parameters, **group.parameters})
        joined.append(group)
    return tuple(joined)
