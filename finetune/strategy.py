"""How far a backbone itself learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from finetune.training.recipe import Recipe
    from models.backbone_store import TorchBackbone


class Strategy(StrEnum):
    """What is trained on top of pretrained weights.

    | strategy | what learns | what a version stores |
    |---|---|---|
    | probe | a head on frozen features (`finetune.probes`) | the head: kilobytes |
    | partial | the head and the last layer groups (`finetune.partial`) | a backbone of its own |
    | full | everything, lower layers more slowly (`finetune.full`) | a backbone of its own |
    | lora | low-rank additions to linear layers, merged at the end (`finetune.lora`) | a backbone of its own |

    The last three start from the probe's head, so that no random head ever moves pretrained weights (Kumar et al. 2022,
    "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution").
    """

    PROBE = "probe"
    PARTIAL = "partial"
    FULL = "full"
    LORA = "lora"


@dataclass(frozen=True, kw_only=True)
class TrainedGroup:
    """Parameters that learn together.

    Attributes:
        name: of the layer group.
        parameters: by name within the backbone.
        rate: their learning rate, as a multiple of the recipe's.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a strategy makes of a backbone.

    Attributes:
        groups: what learns; everything else stays bit for bit as it is.
        finish: called once after training; the backbone then has its own parameters again, by their own names.
    """

    groups: Sequence[TrainedGroup]
    finish: Callable[[], None] = lambda: None


def plan(strategy: Strategy, backbone: TorchBackbone, recipe: Recipe) -> Plan:
    """Freezes a backbone but for what a strategy trains.

    Args:
        strategy: any but ``probe``, which trains no backbone.
        backbone: changed in place.
        recipe: holds the strategy's own settings.

    Raises:
        InvalidParameter: the strategy does not suit this backbone.
    """
    from finetune import full, lora, partial

    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    planned = {Strategy.PARTIAL: partial.plan, Strategy.FULL: full.plan, Strategy.LORA: lora.plan}[strategy](
        backbone, recipe
    )
    for group in planned.groups:
        for parameter in group.parameters.values():
            parameter.requires_grad_(True)
    return planned
