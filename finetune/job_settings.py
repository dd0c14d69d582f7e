"""What a user asks of a fine-tuning job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from finetune.columns import ColumnNames
from finetune.policy import Policy
from finetune.strategy import Strategy
from models.options import EngineName, PrecisionName
from models.task import Task


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """What a user asks for.

    Attributes:
        backbone: by name; the default for the data's modality without.
        device: ``cpu`` or ``cuda``.
        engine: what computes features; ``auto`` takes the fastest that gives the right ones.
        precision: ``auto`` fits a head for int8 too where that is faster.
        cache_dir: for features, graphs of backbones, and which engine is the fastest.
        strategy: what learns.
        recipe: fields of `finetune.training.recipe.Recipe` that the user chose.
        seed: of the cross-validation's folds, the bootstrap and the training.
        test_share: of each class, where the data brings no test split.
        task: what labels are for; None reads it from the data.
        renames: from what a label is called in the data or in earlier versions to what it is to be called.
    """

    data: Path
    name: str
    cache_dir: Path
    backbone: str | None = None
    device: str = "cpu"
    engine: EngineName = "auto"
    precision: PrecisionName = "auto"
    strategy: Strategy = Strategy.PROBE
    recipe: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    test_share: float = 0.2
    columns: ColumnNames | None = None
    task: Task | None = None
    renames: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    policy: Policy = field(default_factory=Policy)
