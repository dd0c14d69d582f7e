"""The strategies that train the backbone itself: probe first, then learn, then a backbone with a digest of its own.

What comes of it is served like any other backbone: a version names it by its digest. Versions that were trained apart do not
share batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from finetune.dataset import Dataset
from finetune.example import Example
from finetune.findings import Finding
from finetune.progress import progress_bar
from finetune.split import make_splits
from finetune.training.lesson import Lesson
from finetune.training.processes import Start, accelerating, is_first, share
from finetune.training.recipe import Recipe
from finetune.training.run import Run, Trained, train
from finetune.training.trainer import DIVERGED
from models.backbone import Modality
from models.backbone_store import BackboneStore, StoredBackbone
from models.checkpoint import Checkpoint
from models.errors import DatasetInvalid
from models.head import Head
from models.manifest import Setting
from models.preprocessor import PreprocessorConfig
from models.task import Task

VALIDATION_SHARE = 0.15  # of what is not the test split, where the data names no validation split
MOST_LOADERS = 8
FEW_ROWS = 30  # an accuracy of 0.8 on so many has a standard error of 0.07
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class Pupil:
    """What is to learn, and from what.

    Attributes:
        learn: examples to learn from.
        validate: examples that decide when to stop and which epoch was the best; the head is calibrated on them.
    """

    stored: StoredBackbone
    task: Task
    labels: Sequence[str]
    learn: Sequence[Example]
    validate: Sequence[Example]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A backbone that has learnt, and its head.

    Attributes:
        stored: in the repository; where it gained nothing, the one that it started from.
        preprocessor: of pairs it says how they are read.
        head: as it was after the best epoch.
        validate: the examples that chose that epoch.
    """

    stored: StoredBackbone
    preprocessor: PreprocessorConfig
    head: Head
    validate: Sequence[Example]
    recipe: Recipe
    trained: Trained

    @property
    def gained(self) -> bool:
        """Whether any epoch was better than the probe that it started from."""
        return self.trained.outcome.history.best.epoch > 0

    def settings(self) -> Mapping[str, Setting]:
        """How it was trained, for the manifest."""
        told = self.recipe.model_dump(mode="json", exclude={"strategy", "seed"}, exclude_none=True)
        return {**told, "best_epoch": self.trained.outcome.history.best.epoch}

    def findings(self) -> tuple[Finding, ...]:
        """What a user should know of the training."""
        outcome, found = self.trained.outcome, []
        if outcome.stopped == DIVERGED:
            message = f"training ended early: {outcome.stopped}; try a lower --learning-rate"
            found.append(Finding(severity="warning", code="diverged", message=message, count=1))
        if len(self.validate) < FEW_ROWS:
            message = (
                f"only {len(self.validate)} examples decided which epoch was the best, and calibrated it: much of that is "
                "chance; compare with --strategy probe, which needs none of its own, or add examples"
            )
            found.append(Finding(severity="warning", code="few_validation_rows", message=message, count=1))
        if not self.gained:
            message = "no epoch was better than a head on frozen features, which is published instead"
            found.append(Finding(severity="warning", code="nothing_gained", message=message, count=1))
        return tuple(found)


def held_out(dataset: Dataset) -> tuple[Sequence[Example], Sequence[Example]]:
    """What to learn from and what to validate on: the data's own validation split, or a part of the training split.

    Raises:
        DatasetInvalid: there are too few distinct examples.
    """
    if dataset.split("val"):
        return dataset.split("train"), dataset.split("val")
    learn, validate = make_splits(dataset.split("train"), task=dataset.task, test_share=VALIDATION_SHARE)
    if not validate:
        raise DatasetInvalid(
            "too few distinct examples to hold out a validation split; add examples, or use --strategy probe"
        )
    return learn, validate


def tune(
    pupil: Pupil,
    recipe: Recipe,
    start: Callable[[], Start],
    backbones: BackboneStore,
    *,
    device: str,
    directory: Path,
    console: Console,
) -> Tuned | None:
    """Trains a backbone and its head, and stores the backbone.

    Args:
        pupil: what is to learn.
        recipe: the settings, the strategy among them.
        start: head and preprocessor that it starts from; asked in the first process only.
        backbones: where the trained one is stored.
        device: ``cpu`` or ``cuda``.
        directory: for what is kept until the run is done.
        console: for progress.

    Returns:
        None in all processes but the first.

    Raises:
        InvalidParameter, Conflict, DatasetInvalid, OutOfMemory, StorageFailed: see `finetune.training.run.train`.
    """
    with accelerating(device, bf16=recipe.bf16) as accelerator:
        head, preprocessor = share(start() if is_first() else None)
        run = Run(
            stored=pupil.stored,
            preprocessor=preprocessor,
            task=pupil.task,
            labels=pupil.labels,
            head=head,
            learn=lesson(pupil.learn, pupil.task, pupil.labels),
            validate=lesson(pupil.validate, pupil.task, pupil.labels),
            recipe=recipe,
        )
        with progress_bar(console, f"training ({recipe.strategy})") as progress:
            loaders = loaders_for(device, pupil.stored.config.modality)
            trained = train(run, accelerator, directory=directory, progress=progress, loaders=loaders)
    if not is_first():
        return None
    tuned = Tuned(
        stored=pupil.stored,
        preprocessor=preprocessor,
        head=trained.outcome.head,
        validate=pupil.validate,
        recipe=recipe,
        trained=trained,
    )
    return replace(tuned, stored=backbones.add(_checkpoint(pupil, tuned))) if tuned.gained else tuned


def lesson(examples: Sequence[Example], task: Task, labels: Sequence[str]) -> Lesson:
    """Examples with their targets in numbers; labels that a head has no row for count as none."""
    index = {label: number for number, label in enumerate(labels)}

    def target(example: Example) -> torch.Tensor:
        if task is Task.REGRESSION:
            return torch.tensor(float(str(example.label)))
        if task is Task.SINGLE_LABEL:
            return torch.tensor(index[str(example.label)])
        assert isinstance(example.label, tuple)
        numbers = [index[label] for label in example.label]
        if task is Task.TOKEN_CLASSIFICATION:
            return torch.tensor(numbers, dtype=torch.int64)
        return torch.zeros(len(labels)).index_fill(0, torch.tensor(numbers, dtype=torch.int64), 1.0)

    return Lesson(examples=examples, targets=[target(example) for example in examples])


def loaders_for(device: str, modality: Modality) -> int:
    """How many processes decode: a GPU learns from images faster than one decodes them; texts are tokenised once."""
    cores = len(os.sched_getaffinity(0))
    return min(MOST_LOADERS, max(1, cores - 1)) if device != "cpu" and modality is Modality.IMAGE else 0


def _checkpoint(pupil: Pupil, tuned: Tuned) -> Checkpoint:
    tokenizer = pupil.stored.directory / TOKENIZER
    return Checkpoint(
        config=pupil.stored.config,
        state=dict(tuned.trained.state),
        preprocessor=tuned.preprocessor,
        tokenizer_json=tokenizer.read_bytes() if tokenizer.exists() else None,
    )
