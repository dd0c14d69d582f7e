"""The ``partial`` strategy: the head and the last layer groups learn, the lower ones stay as they are.

Lower layers hold what all pictures or texts have in common, higher ones what the pretraining task asked for (Yosinski et
al. 2014, "How transferable are features in deep neural networks?"). It costs less than ``full``: no gradient runs below the
lowest group that learns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune.strategy import Plan, TrainedGroup
from models.errors import InvalidParameter

if TYPE_CHECKING:
    from finetune.training.recipe import Recipe
    from models.backbone_store import TorchBackbone


def plan(backbone: TorchBackbone, recipe: Recipe) -> Plan:
    """The last ``recipe.trained_groups`` layer groups, all at the recipe's learning rate.

    Raises:
        InvalidParameter: the backbone has no more groups than that; then it is ``full``.
    """
    groups = backbone.layer_groups()
    if recipe.trained_groups >= len(groups):
        raise InvalidParameter(
            f"the backbone has {len(groups)} layer groups: train 1 to {len(groups) - 1} of them, or use --strategy full"
        )
    trained = groups[-recipe.trained_groups :]
    return Plan(groups=[TrainedGroup(name=group.name, parameters=group.parameters) for group in trained])
