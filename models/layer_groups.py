"""The parameters of a backbone from input to output: one enumeration for freezing, layer-wise learning rates and progress."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_NUMBERED = re.compile(r"(.*?\.\d+)\.")


@dataclass(frozen=True, kw_only=True)
class LayerGroup:
    """Layers that are frozen, or given a learning rate, as one.

    Attributes:
        name: for people: ``stem``, ``embeddings``, or the module that holds it, such as ``blocks.3``.
        parameters: by their names in the backbone's ``named_parameters()``.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]


def numbered_layers(
    parameters: Iterable[tuple[str, nn.Parameter]], *, first: str, inputs: Collection[str] = ()
) -> tuple[LayerGroup, ...]:
    """Groups parameters by the first number in their names, which is that of a layer or stage.

    Args:
        parameters: of a backbone, in the order of its modules.
        first: the name for what stands before the first layer.
        inputs: names of parameters that belong there wherever they stand.
    """
    groups: dict[str, dict[str, nn.Parameter]] = {first: {}}
    for name, parameter in parameters:
        own = name.removeprefix("model.")
        numbered = _NUMBERED.match(own)
        if numbered:
            group = numbered[1]
        elif len(groups) == 1 or name in inputs:
            group = first
        else:
            group = own.rpartition(".")[0] or own
        groups.setdefault(group, {})[name] = parameter
    return whole_layers(LayerGroup(name=name, parameters=each) for name, each in groups.items() if each)


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
