"""The ``full`` strategy: every layer learns, lower ones more slowly.

The learning rate falls by a constant factor from group to group towards the input (Howard & Ruder 2018, "Universal
Language Model Fine-tuning for Text Classification", who call it discriminative fine-tuning; Clark et al. 2020, ELECTRA, and
Bao et al. 2022, BEiT, do the same to transformers of text and of images).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune.strategy import Plan, TrainedGroup

if TYPE_CHECKING:
    from finetune.training.recipe import Recipe
    from models.backbone_store import TorchBackbone


def plan(backbone: TorchBackbone, recipe: Recipe) -> Plan:
    """All groups; the last one learns at the recipe's rate, each one below at ``recipe.layer_decay`` of that above it."""
    groups = backbone.layer_groups()
    return Plan(
        groups=[
            TrainedGroup(name=group.name, parameters=group.parameters, rate=recipe.layer_decay**depth)
            for depth, group in zip(reversed(range(len(groups))), groups, strict=True)
        ]
    )
