"""The strategies that train the backbone itself: probe first, then learn, then a backbone with a digest of its own.

What comes of it is served like any other backbone: a version names it by its digest. Versions that were trained apart do not
share batches.

A recipe that refits learns twice: without the validation rows, which then say what that is worth and how sure it may be of
itself; and in the same way with them, which is published. So do probes, whose folds are judged and whose head is fitted on all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from finetune.dataset import Dataset
from finetune.example import Example
from finetune.findings import Finding
from finetune.progress import progress_bar
from finetune.split import make_splits
from finetune.training.lesson import Lesson
from finetune.training.processes import Start, accelerating, is_first, share, share_labels
from finetune.training.recipe import Recipe
from finetune.training.run import Run, Trained, train
from finetune.training.trainer import DIVERGED
from models.backbone import Modality
from models.backbone_store import BackboneStore, StoredBackbone
from models.checkpoint import Checkpoint
from models.cores import available_cores
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
        preprocessor: where the examples are pairs, it may leave open how they are read.
        learn: examples to learn from.
        validate: examples that decide when to stop and which epoch was the best; the head is calibrated on them.
    """

    stored: StoredBackbone
    preprocessor: PreprocessorConfig
    task: Task
    labels: Sequence[str]
    learn: Sequence[Example]
    validate: Sequence[Example]


class Learnt(NamedTuple):
    """A backbone that has learnt, and its head."""

    stored: StoredBackbone
    head: Head


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What came of learning.

    Attributes:
        published: in the repository; where nothing was gained, the backbone that it started from.
        judged: what has not seen the validation examples; the same where those were not learnt from in the end.
        preprocessor: of pairs it says how they are read.
        validate: the examples that chose the epoch, and calibrate.
        trained: the run that was judged.
        again: the one that learnt from the validation examples too, if there was one.
    """

    published: Learnt
    judged: Learnt
    preprocessor: PreprocessorConfig
    validate: Sequence[Example]
    recipe: Recipe
    trained: Trained
    again: Trained | None = None

    @property
    def refitted(self) -> bool:
        """Whether the validation examples were learnt from in the end."""
        return self.published is not self.judged

    @property
    def gained(self) -> bool:
        """Whether it became better than the probe that it started from."""
        return _gained(self.trained)

    def settings(self) -> Mapping[str, Setting]:
        """How it was trained, for the manifest."""
        told = self.recipe.model_dump(mode="json", exclude={"strategy", "seed"}, exclude_none=True)
        return {**told, "best_epoch": self.trained.outcome.history.best.epoch}

    def findings(self) -> tuple[Finding, ...]:
        """What a user should know of the training."""
        found = []
        if any(run.outcome.stopped == DIVERGED for run in self._runs):
            message = f"training ended early: {DIVERGED}; try a lower --learning-rate"
            found.append(Finding(severity="warning", code="diverged", message=message, count=1))
        if len(self.validate) < FEW_ROWS:
            message = (
                f"only {len(self.validate)} examples say how sure the model may be of itself, and that learning was better "
                "than a probe: much of that is chance; compare with --strategy probe, or add examples"
            )
            found.append(Finding(severity="warning", code="few_validation_rows", message=message, count=1))
        if not self.gained:
            message = "learning was no better than a head on frozen features, which is published instead"
            found.append(Finding(severity="warning", code="nothing_gained", message=message, count=1))
        return tuple(found)

    def clear(self) -> None:
        """Removes what was kept of the runs; raises `StorageFailed` where that cannot be."""
        for run in self._runs:
            run.clear()

    @property
    def _runs(self) -> Sequence[Trained]:
        return [self.trained] if self.again is None else [self.trained, self.again]


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
    probe: Callable[[Pupil], Start],
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
        probe: head and preprocessor that a run starts from; asked in the first process only.
        backbones: where the trained one is stored.
        device: ``cpu`` or ``cuda``.
        directory: for what is kept until the run is done.
        console: for progress.

    Returns:
        None in all processes but the first.

    Raises:
        InvalidParameter, Conflict, DatasetInvalid, OutOfMemory, StorageFailed: see `finetune.training.run.train`.
    """
    loaders = loaders_for(device, pupil.stored.config.modality)
    with accelerating(device, bf16=recipe.bf16) as accelerator:
        pupil = replace(pupil, labels=share_labels(pupil.labels))

        def learn(pupil: Pupil, what: str) -> tuple[Pupil, Trained]:
            head, preprocessor = share(probe(pupil) if is_first() else None)
            pupil = replace(pupil, preprocessor=preprocessor)
            with progress_bar(console, what) as progress:
                run = _run(pupil, head, recipe)
                return pupil, train(run, accelerator, directory=directory, progress=progress, loaders=loaders)

        pupil, trained = learn(pupil, f"training ({recipe.strategy})")
        again = None
        if recipe.refit and _gained(trained) and trained.outcome.stopped is None:
            every = replace(pupil, learn=[*pupil.learn, *pupil.validate], validate=())
            _, again = learn(every, "training with the validation rows")
    if not is_first():
        return None
    judged = published = Learnt(pupil.stored, trained.outcome.head)
    if _gained(trained):
        final = trained if again is None or again.outcome.stopped is not None else again
        judged = published = Learnt(backbones.add(_checkpoint(pupil, final)), final.outcome.head)
        if final is not trained:
            own = BackboneStore(trained.directory / "backbones")
            judged = Learnt(own.add(_checkpoint(pupil, trained)), trained.outcome.head)
    return Tuned(
        published=published,
        judged=judged,
        preprocessor=pupil.preprocessor,
        validate=pupil.validate,
        recipe=recipe,
        trained=trained,
        again=again,
    )


def _run(pupil: Pupil, head: Head, recipe: Recipe) -> Run:
    return Run(
        stored=pupil.stored,
        preprocessor=pupil.preprocessor,
        task=pupil.task,
        labels=pupil.labels,
        head=head,
        learn=lesson(pupil.learn, pupil.task, pupil.labels),
        validate=lesson(pupil.validate, pupil.task, pupil.labels) if pupil.validate else None,
        recipe=recipe,
    )


def _gained(trained: Trained) -> bool:
    return trained.outcome.history.best.epoch > 0


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
    cores = available_cores()
    return min(MOST_LOADERS, max(1, cores - 1)) if device != "cpu" and modality is Modality.IMAGE else 0


def _checkpoint(pupil: Pupil, trained: Trained) -> Checkpoint:
    tokenizer = pupil.stored.directory / TOKENIZER
    return Checkpoint(
        config=pupil.stored.config,
        state=dict(trained.state),
        preprocessor=pupil.preprocessor,
        tokenizer_json=tokenizer.read_bytes() if tokenizer.exists() else None,
    )
