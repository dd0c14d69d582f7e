"""A training run from a backbone on disk to one that has learnt: everything between strategy and published weights."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from finetune.progress import ProgressReport
from finetune.strategy import plan
from finetune.training.checkpoints import Checkpoints
from finetune.training.grafted import Grafted
from finetune.training.history import History
from finetune.training.lesson import Lesson
from finetune.training.recipe import Augmentation, Recipe
from finetune.training.rows import TrainingRows
from finetune.training.trainer import Outcome, Trainer
from finetune.training.validation import Validator
from models import storage
from models.backbone_store import StoredBackbone
from models.errors import Conflict
from models.head import Head
from models.preprocessor import PreprocessorConfig, preprocessing_identity
from models.task import Task

if TYPE_CHECKING:
    from accelerate import Accelerator

CENTRED_ROWS = 64  # whose features say what is their middle
FORMAT = 3  # of what is kept of a run; raised whenever the same facts would give another result
LIBRARIES = ("torch", "timm", "transformers", "peft", "accelerate", "torchvision")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is trained, on what, and how.

    Attributes:
        labels: in the order of the head's rows.
        head: where the head starts.
        learn: what it learns from.
        validate: what it is judged by after each epoch; nothing where all there is to learn from is learnt from.
    """

    stored: StoredBackbone
    preprocessor: PreprocessorConfig
    task: Task
    labels: Sequence[str]
    head: Head
    learn: Lesson
    validate: Lesson | None
    recipe: Recipe

    @property
    def identity(self) -> str:
        """Sha256 (hex) over all that the result depends on: a run with the same one goes on where the other was stopped."""
        lessons = [self.learn, *([] if self.validate is None else [self.validate])]
        facts = {
            "format": FORMAT,
            "backbone": self.stored.digest,
            "preprocessor": preprocessing_identity(self.preprocessor),
            "task": self.task,
            "head": hashlib.sha256(self.head.to_bytes()).hexdigest(),
            "recipe": self.recipe.model_dump(mode="json"),
            "rows": [[example.digest for example in lesson.examples] for lesson in lessons],
            "targets": [[target.tolist() for target in lesson.targets] for lesson in lessons],
            "threads": torch.get_num_threads(),
            "processes": os.environ.get("WORLD_SIZE", "1"),
            "libraries": [f"{name}-{version(name)}" for name in LIBRARIES],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of a run.

    Attributes:
        state: the backbone's tensors, under the names that they had.
        directory: what was kept of the run; whoever has published it clears it.
    """

    outcome: Outcome
    state: Mapping[str, torch.Tensor]
    directory: Path

    def clear(self) -> None:
        """Removes what was kept of the run; raises `StorageFailed` where that cannot be."""
        with storage.reporting("the training state cannot be removed"):
            storage.remove(self.directory)


def train(
    run: Run, accelerator: Accelerator, *, directory: Path, progress: ProgressReport | None = None, **options: Any
) -> Trained:
    """Runs it, or the rest of it where it was stopped before.

    Args:
        accelerator: of `finetune.training.processes.accelerating`.
        directory: for what is kept until the run is done, and its log.
        progress: told of every step.
        options: of `Trainer`.

    Raises:
        InvalidParameter: the strategy does not suit the backbone.
        Conflict: the same run is going on in another process.
        DatasetInvalid, OutOfMemory, StorageFailed: see `Trainer.run`.
    """
    recipe = run.recipe

    def rows_of(lesson: Lesson, augment: Augmentation) -> TrainingRows:
        kind = run.task.traits.features
        return TrainingRows(
            lesson.examples, run.preprocessor, run.stored.directory, augment=augment, seed=recipe.seed, kind=kind
        )

    rows, validator = rows_of(run.learn, recipe.augmentation), None
    if run.validate is not None:
        judged, device = rows_of(run.validate, "none"), accelerator.device
        validator = Validator(judged, run.validate, task=run.task, labels=run.labels, device=device)
    torch.manual_seed(recipe.seed)  # of what a strategy adds
    backbone = run.stored.load(dropout=recipe.dropout, drop_path=recipe.drop_path)
    planned = plan(recipe.strategy, backbone, recipe)
    grafted = Grafted(backbone, run.head, run.task.traits.features)
    first = [rows[0, number] for number in range(min(CENTRED_ROWS, len(rows)))]
    grafted.centre(rows.preprocessor.collate(first), first)
    own = directory / run.identity[:32]
    is_first = accelerator.is_main_process
    with _held(own) if is_first else nullcontext():
        trainer = Trainer(
            grafted,
            planned,
            recipe,
            task=run.task,
            rows=rows,
            lesson=run.learn,
            validator=validator,
            accelerator=accelerator,
            checkpoints=Checkpoints(own / "checkpoints"),  # which it holds for a moment each time it writes
            history=History(own / "log.jsonl" if is_first else None, takes_last=recipe.refit),
            progress=progress if is_first else None,
            **options,
        )
        outcome = trainer.run()
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.model.state_dict().items()}
    return Trained(outcome=outcome, state=state, directory=own)


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Makes a directory, and keeps other runs out of it."""
    with storage.reporting("the training state cannot be kept"):
        storage.make_directory(directory)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "the same run is going on in another process; wait for it, or choose another --seed"
            ) from None
        yield
    finally:
        os.close(descriptor)
