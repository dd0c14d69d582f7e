from __future__ import annotations

import torch
from torch import nn

from models.layer_groups import LayerGroup, numbered_layers, whole_layers


def group(name: str, **shapes: tuple[int, ...]) -> LayerGroup:
    return LayerGroup(
        name=name,
        parameters={f"{name}.{key}": nn.Parameter(torch.zeros(shape)) for key, shape in shapes.items()},
    )


def test_a_normalisation_belongs_to_the_layer_before_it() -> None:
    groups = [
        group("stem", weight=(4, 3, 3, 3)),
        group("features.1", weight=(4,), bias=(4,)),
        group("features.3", weight=(4, 4, 3, 3)),
        group("norm", weight=(4,)),
        group("head.norm", weight=(4,)),
    ]
    joined = whole_layers(groups)
    assert [(each.name, list(each.parameters)) for each in joined] == [
        ("stem", ["stem.weight", "features.1.weight", "features.1.bias"]),
        ("features.3", ["features.3.weight", "norm.weight", "head.norm.weight"]),
    ]
    assert joined[0].parameters["features.1.bias"] is groups[1].parameters["features.1.bias"]


def test_the_first_group_stays_whatever_it_holds() -> None:
    groups = [group("stem", cls_token=(4,)), group("blocks.0", weight=(4, 4))]
    assert [each.name for each in whole_layers(groups)] == ["stem", "blocks.0"]


def test_layers_are_told_by_their_first_number() -> None:
    names = ["wte", "wpe", "h.0.attn.1", "h.0.mlp", "h.1.attn.1", "distances", "ln_f", "head"]
    shapes = {"ln_f": (4,)}
    parameters = [(f"model.{name}.weight", nn.Parameter(torch.zeros(shapes.get(name, (4, 4))))) for name in names]
    groups = numbered_layers(parameters, first="embeddings", inputs={"model.distances.weight"})
    assert {group.name: [name.split(".", 1)[1] for name in group.parameters] for group in groups} == {
        "embeddings": ["wte.weight", "wpe.weight", "distances.weight"],
        "h.0": ["h.0.attn.1.weight", "h.0.mlp.weight"],
        "h.1": ["h.1.attn.1.weight", "ln_f.weight"],
        "head": ["head.weight"],
    }
