"""What a training run is told: every number that its result depends on, within bounds."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finetune.strategy import Strategy
from models.backbone import Modality
from models.errors import InvalidParameter

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]
Augmentation = Literal["none", "light", "strong"]


class Recipe(BaseModel):
    """A training run's settings.

    Attributes:
        strategy: what learns.
        optimizer: as torch has them; SGD with Nesterov's momentum of 0.9.
        learning_rate: the highest, of the head and the last layer group.
        layer_decay: ``full``: the learning rate of a layer group over that of the one above it.
        weight_decay: not on biases and the scales of normalisations, that is on nothing of one dimension.
        epochs: at most; without, 3 to 10, such that there are about 500 steps, and up to 30 where there would be less than 100.
        patience: epochs that are no better on the validation rows after which it stops; without, a third of all, and 3 at least.
        refit: goes through all epochs without stopping, and then again with the validation rows among those to learn from.
        batch_size: rows of one step, over all processes.
        micro_batch_size: rows that are on a device at a time; gradients of a step add up. None: all of a process's rows.
        warmup: share of all steps in which the rate rises; afterwards it falls as a cosine does.
        clip_norm: gradients are scaled down to this length.
        label_smoothing: share of each target that goes to the other classes (Szegedy et al. 2016).
        dropout: of the backbone, and of LoRA's additions; None leaves the checkpoint's own.
        drop_path: share of residual branches that are left out (Huang et al. 2016, stochastic depth); None: the checkpoint's own.
        augmentation: of images: ``light`` crops and flips, ``strong`` also distorts colours and shapes and erases.
        trained_groups: ``partial``: how many layer groups, from the last one.
        lora_rank, lora_alpha: ``lora``: the additions' rank, and what their sum is multiplied by, over the rank.
        bf16: on a device that computes in bfloat16.
        seed: of the order of rows, augmentation and dropout; the numbers of step and row decide the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Strategy
    optimizer: Optimizer = "adamw"
    learning_rate: float = Field(gt=0, le=1)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    epochs: int = Field(default=10, ge=1, le=1000)
    patience: int = Field(default=3, ge=1, le=1000)
    refit: bool = False
    batch_size: int = Field(default=32, ge=1, le=8192)
    micro_batch_size: int | None = Field(default=None, ge=1, le=8192)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0, le=1e6)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    drop_path: float | None = Field(default=None, ge=0, lt=1)
    augmentation: Augmentation = "none"
    trained_groups: int = Field(default=2, ge=1, le=1000)
    lora_rank: int = Field(default=8, ge=1, le=1024)
    lora_alpha: int = Field(default=16, gt=0, le=4096)
    bf16: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)


# Three epochs of large data sets, as BERT's authors take; more of small ones, which the few steps of three epochs leave
# underfitted (Mosbach et al. 2021, "On the Stability of Fine-tuning BERT"; Zhang et al. 2021).
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 500, 3, 10
FEWEST_STEPS, MOST_EPOCHS_OF_FEW = 100, 30

# Of so few rows the part that is held out is dear, says little, and picks epochs by chance: they are all learnt from in the end.
REFIT_ROWS = 1000

# Learning rates: BERT's authors chose 2e-5 to 5e-5 (Devlin et al. 2019), LoRA wants ten times as much or more (Hu et al. 2022,
# appendix D). Layer decay: 0.95 a layer in Zhang et al. 2021 ("Revisiting Few-sample BERT Fine-tuning"), 0.65 to 0.9 for images
# (BEiT, MAE). Sweeps (`tests.benchmarks.sweep`), scores of validation rows from the probe on. all-MiniLM-L6-v2, full: entity F1 of
# wnut17 .42 -> .57 with 1e-4 in 5 epochs, and not faster with 3e-4; accuracy of banking77 with 8 a class is within a row for
# 5e-5 and 2e-4. EfficientNet-Lite0, full, first epoch: clothing10 .86 -> .86 with 1e-4, .77 with 3e-4; sign_digits .94 -> .91 with
# 3e-4, .83 with 1e-3, from which it recovers. What falls that far on a few hundred rows may not, so 1e-4.
_DEFAULTS: dict[Modality, dict[Strategy, dict[str, Any]]] = {
    Modality.TEXT: {
        Strategy.PARTIAL: {"learning_rate": 1e-4},
        Strategy.FULL: {"learning_rate": 1e-4, "layer_decay": 0.9},
        Strategy.LORA: {"learning_rate": 5e-4, "weight_decay": 0.0},
    },
    Modality.IMAGE: {
        Strategy.PARTIAL: {"learning_rate": 1e-4, "augmentation": "light"},
        Strategy.FULL: {"learning_rate": 1e-4, "layer_decay": 0.75, "augmentation": "light"},
        Strategy.LORA: {"learning_rate": 5e-4, "weight_decay": 0.0, "augmentation": "light"},
    },
}


# Nothing to be kept, and much to be found: Adam's own default rate (Kingma & Ba 2015) in all layers, for longer.
_FROM_SCRATCH: dict[str, Any] = {"learning_rate": 1e-3, "layer_decay": 1.0, "epochs": 30, "patience": 5}


def recipe_for(
    strategy: Strategy, modality: Modality, rows: int, *, pretrained: bool = True, **chosen: object
) -> Recipe:
    """The recipe for a strategy: what the user chose, and defaults for the rest.

    Args:
        rows: to learn from.
        pretrained: whether the backbone has learnt anything yet.
        chosen: fields of `Recipe`; None leaves one to the default.

    Raises:
        InvalidParameter: a value is out of bounds; the message names its option and the bounds.
    """
    told = {name: value for name, value in chosen.items() if value is not None}
    try:
        defaults = _DEFAULTS[modality][strategy] if pretrained else _FROM_SCRATCH
        recipe = Recipe(strategy=strategy, **{**defaults, **told})
    except ValidationError as error:
        (first, *_) = error.errors()
        option = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise InvalidParameter(f"{option} {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    epochs = recipe.epochs if "epochs" in {**defaults, **told} else _epochs(rows / recipe.batch_size)
    patience = recipe.patience if "patience" in {**defaults, **told} else max(3, epochs // 3)
    return recipe.model_copy(update={"epochs": epochs, "patience": patience})


def _epochs(batches: float) -> int:
    """By the number of batches in one of them."""
    usual = min(max(math.ceil(STEPS / batches), FEWEST_EPOCHS), MOST_EPOCHS)
    return max(usual, min(math.ceil(FEWEST_STEPS / batches), MOST_EPOCHS_OF_FEW))
