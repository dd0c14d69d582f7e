"""Command-line options of a training run; without them a strategy has defaults, and bounds are those of `Recipe`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from finetune.strategy import Strategy
from finetune.training.recipe import Augmentation, Optimizer

PANEL = "Training of the backbone (strategies partial, full, lora)"


def _option(*names: str, text: str) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(*names, help=text, rich_help_panel=PANEL)
    return found


StrategyOption: TypeAlias = Annotated[
    Strategy,
    typer.Option(
        help="probe: a head on frozen features. partial, full, lora: the last layers, all of them, or low-rank additions learn too."
    ),
]
LearningRate: TypeAlias = Annotated[float | None, _option("--learning-rate", text="The highest, of the last layers.")]
Epochs: TypeAlias = Annotated[int | None, _option("--epochs", text="At most; without, 3 (many examples) to 30 (few).")]
Patience: TypeAlias = Annotated[
    int | None, _option("--patience", text="Epochs without a better validation score until it stops.")
]
Refit: TypeAlias = Annotated[
    bool | None,
    _option(
        "--refit/--no-refit",
        text="Never stops early, and learns again, with the validation rows too; what is done with less than 1,000 examples.",
    ),
]
BatchSize: TypeAlias = Annotated[int | None, _option("--batch-size", text="Rows of a step, over all processes.")]
MicroBatchSize: TypeAlias = Annotated[
    int | None, _option("--micro-batch-size", text="Rows on the device at a time; gradients of a step add up.")
]
OptimizerOption: TypeAlias = Annotated[Optimizer | None, _option("--optimizer", text="adamw without.")]
WeightDecay: TypeAlias = Annotated[
    float | None, _option("--weight-decay", text="Not on biases and scales of normalisations.")
]
LayerDecay: TypeAlias = Annotated[
    float | None, _option("--layer-decay", text="full: a layer group's rate over that of the one above it.")
]
Warmup: TypeAlias = Annotated[float | None, _option("--warmup", text="Share of all steps in which the rate rises.")]
ClipNorm: TypeAlias = Annotated[float | None, _option("--clip-norm", text="Longest gradient.")]
LabelSmoothing: TypeAlias = Annotated[
    float | None, _option("--label-smoothing", text="Share of a target that goes to other classes.")
]
Dropout: TypeAlias = Annotated[float | None, _option("--dropout", text="The checkpoint's own without.")]
DropPath: TypeAlias = Annotated[
    float | None, _option("--drop-path", text="Share of residual branches that are left out.")
]
AugmentationOption: TypeAlias = Annotated[
    Augmentation | None,
    _option("--augmentation", text="light: crops and flips; strong: colours, shapes and erasing as well."),
]
TrainedGroups: TypeAlias = Annotated[
    int | None, _option("--trained-groups", text="partial: layer groups that learn, from the last one.")
]
LoraRank: TypeAlias = Annotated[int | None, _option("--lora-rank", text="lora: of the additions.")]
LoraAlpha: TypeAlias = Annotated[
    int | None, _option("--lora-alpha", text="lora: what the additions are multiplied by, over the rank.")
]
Bf16: TypeAlias = Annotated[
    bool | None, _option("--bf16/--no-bf16", text="Products in bfloat16; where the device computes in it without.")
]
