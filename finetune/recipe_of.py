"""From what a user asks of a job to the recipe of its training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from finetune.dataset import Dataset
from finetune.job_settings import JobSettings
from finetune.strategy import Strategy
from models.backbone import Modality
from models.errors import InvalidParameter

if TYPE_CHECKING:
    from finetune.training.recipe import Recipe


def recipe_of(settings: JobSettings) -> Callable[[Dataset], Recipe] | None:
    """How the backbone learns, once the data is known; None where it does not learn.

    Raises:
        InvalidParameter: at once, where a value is out of bounds or an option does not belong to the strategy.
    """
    is_scratch = settings.backbone is not None and settings.backbone.startswith("scratch:")
    if is_scratch and settings.strategy is not Strategy.FULL:
        raise InvalidParameter(f"{settings.backbone} has learnt nothing yet, so all of it has to: use --strategy full")
    if settings.strategy is Strategy.PROBE:
        if settings.recipe:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in settings.recipe)
            raise InvalidParameter(f"{options}: for the strategies partial, full and lora, and not for the probe")
        return None
    from finetune.training.processes import has_bf16
    from finetune.training.recipe import REFIT_ROWS, recipe_for

    chosen = {"bf16": has_bf16(settings.device), **settings.recipe, "seed": settings.seed}
    stops_early = is_scratch or "patience" in chosen

    def recipe(dataset: Dataset) -> Recipe:
        rows = len(dataset.split("train"))
        refit = rows < REFIT_ROWS and not dataset.split("val") and not stops_early
        told = {"refit": refit, **chosen}
        return recipe_for(settings.strategy, Modality(dataset.modality), rows, pretrained=not is_scratch, **told)

    recipe_for(settings.strategy, Modality.TEXT, 1, pretrained=not is_scratch, **chosen)
    return recipe
