"""The ``lora`` strategy: the backbone stays, and each of its linear layers gets a low-rank addition that learns.

Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models"; on every linear layer and not only on queries and values,
as without that it falls behind full fine-tuning (Dettmers et al. 2023, "QLoRA", section 4). At the end the additions are
added to the weights, so that what is served costs no more than the backbone that it came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from finetune.strategy import Plan, TrainedGroup
from models.errors import InvalidParameter

if TYPE_CHECKING:
    from finetune.training.recipe import Recipe
    from models.backbone_store import TorchBackbone


def plan(backbone: TorchBackbone, recipe: Recipe) -> Plan:
    """Additions of rank ``recipe.lora_rank`` to the linear layers of ``backbone.model``, which it changes in place.

    Raises:
        InvalidParameter: the backbone has no attention whose linear layers could take them.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers.pytorch_utils import Conv1D

    targets = [name for name, module in backbone.model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    if len(targets) < 2:
        raise InvalidParameter(
            "lora adds to the linear layers of a transformer, and this backbone is none; use --strategy partial or full"
        )
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.dropout or 0.0,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in backbone.model.modules()),
    )
    inject_adapter_in_model(config, backbone.model)

    def merge() -> None:
        for name, module in list(backbone.model.named_modules()):
            if isinstance(module, BaseTunerLayer):
                module.merge(safe_merge=True)  # refuses what is not finite
                parent, _, own = name.rpartition(".")
                setattr(backbone.model.get_submodule(parent), own, module.get_base_layer())

    added = {name: parameter for name, parameter in backbone.named_parameters() if "lora_" in name}
    return Plan(groups=[TrainedGroup(name="lora", parameters=added)], finish=merge)
