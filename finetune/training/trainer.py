"""The training loop.

Whatever is random in it is a function of the seed and of the number of a step or row, and the learning rate is one of the step:
so a run that goes on from a checkpoint ends, on a CPU, with the very bits of one that was never stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from finetune.evaluations.metrics import shown
from finetune.progress import ProgressReport
from finetune.strategy import Plan
from finetune.training.checkpoints import Checkpoints, TrainingState
from finetune.training.grafted import Grafted
from finetune.training.history import History, Step
from finetune.training.lesson import Lesson
from finetune.training.loss import LOSSES
from finetune.training.optimizer import optimizer_tensors, restore_optimizer
from finetune.training.order import RowOrder
from finetune.training.reading import Reading
from finetune.training.recipe import Recipe
from finetune.training.rows import TrainingRows
from finetune.training.stepper import Stepper, Targets
from finetune.training.validation import Validator
from models.batch import Row
from models.features import FeatureKind
from models.head import Head
from models.task import Task

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        head: as it was after the epoch that was taken; so is the backbone, which was trained in place.
        stopped: why it ended before its last epoch; None where it did not.
    """

    head: Head
    history: History
    stopped: str | None


class Trainer:
    """One run.

    Args:
        grafted: backbone and head, frozen as the plan says.
        plan: what learns, and what is to be done at the end.
        recipe: the settings.
        task: decides the loss.
        rows: to learn from.
        lesson: what they should give.
        validator: judges the model after each epoch; without, and with a recipe that refits, the last epoch is taken.
        accelerator: device, precision and processes.
        checkpoints: where it goes on from, and what it leaves; None keeps nothing.
        history: empty; filled in the course of the run.
        checkpoint_seconds: between checkpoints; there is one at the end as well. None after each epoch: of few rows an epoch
            takes less time than what is three times the backbone takes to reach the disk.
        loaders: processes that decode images; with 0 this one does.
        progress: told of every step.
    """

    def __init__(
        self,
        grafted: Grafted,
        plan: Plan,
        recipe: Recipe,
        *,
        task: Task,
        rows: TrainingRows,
        lesson: Lesson,
        validator: Validator | None,
        accelerator: Accelerator,
        checkpoints: Checkpoints | None,
        history: History,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        loaders: int = 0,
        progress: ProgressReport | None = None,
    ) -> None:
        self._order = RowOrder(len(rows), batch_size=recipe.batch_size, seed=recipe.seed, lengths=rows.lengths)
        self._steps = recipe.epochs * self._order.batches
        self._stepper = Stepper(
            grafted,
            plan,
            recipe,
            steps=self._steps,
            loss=LOSSES[task.traits.loss],
            preprocessor=rows.preprocessor,
            accelerator=accelerator,
        )
        self._grafted, self._plan, self._recipe = grafted, plan, recipe
        self._rows, self._lesson, self._validator = rows, lesson, validator
        self._takes_last = recipe.refit or validator is None
        self._has_words, self._metric = task.traits.features is FeatureKind.TOKENS, shown(task.traits.primary_metric)
        self._accelerator, self._checkpoints, self._history = accelerator, checkpoints, history
        self._checkpoint_seconds, self._loaders, self._progress = checkpoint_seconds, loaders, progress
        self._step = 0  # how many are done
        self._best: dict[str, torch.Tensor] = {}
        self._unseen: tuple[Step, Reading] | None = None
        self._kept_at, self._is_due = 0.0, False

    def run(self) -> Outcome:
        """Trains, from the last checkpoint where there is one, and leaves the best model in place.

        Raises:
            DatasetInvalid: an example changed or cannot be read any more.
            OutOfMemory: not even one row fits on the device.
            StorageFailed: a checkpoint cannot be written; the last one is intact.
        """
        self._resume()
        if not self._best:
            self._validate(epoch=0)
        stopped = self._learn()
        self._grafted.restore(self._best)
        self._plan.finish()
        self._grafted.eval()
        return Outcome(head=self._grafted.trained_head(), history=self._history, stopped=stopped)

    def _learn(self) -> str | None:
        """Returns why it stopped early, if it did."""
        patience, seen_at = self._recipe.patience, time.monotonic()
        self._kept_at = seen_at
        for (epoch, numbers), rows in zip(self._batches(), self._load(), strict=True):
            if not self._takes_last and self._history.epochs_without_gain >= patience:
                return f"no better in {patience} epochs"
            own, weight = self._share_of(numbers)
            loss, norm = self._stepper.take(self._step, rows, self._wanted(own), weight)
            now = time.monotonic()
            reading = self._read(loss, norm, is_due=now - self._kept_at > self._checkpoint_seconds)
            record = Step(
                step=self._step + 1,
                epoch=(self._step + 1) / self._order.batches,
                loss=0.0,
                learning_rate=self._stepper.learning_rate(self._step),
                gradient_norm=0.0,
                rows_per_second=len(numbers) / (now - seen_at),
            )
            seen_at, self._step = now, self._step + 1
            if not self._see():
                return DIVERGED
            self._unseen = (record, reading)
            is_epoch_end = self._step % self._order.batches == 0
            if is_epoch_end or self._is_due:
                if not self._see():
                    return DIVERGED
                if is_epoch_end:
                    self._validate(epoch + 1)
                    seen_at = time.monotonic()
                if self._is_due or self._step == self._steps:
                    self._keep()
                    self._kept_at = seen_at = time.monotonic()
                    self._is_due = False
        return None

    def _read(self, loss: torch.Tensor, norm: torch.Tensor, *, is_due: bool) -> Reading:
        """A step's loss over all processes, its gradient's norm, and whether the first process, whose clock counts, is to keep
        a checkpoint: clocks that differ by a moment would have processes wait for each other in different places.
        """
        due = float(is_due and self._accelerator.is_main_process)
        loss_due = self._accelerator.reduce(torch.stack([loss, torch.full_like(loss, due)]), reduction="sum")
        return Reading(torch.stack([loss_due[0], norm.to(loss_due), loss_due[1]]))

    def _see(self) -> bool:
        """Takes the step before this one into the history, now that the device is done with it; whether all is well with it."""
        if self._unseen is None:
            return True
        record, reading = self._unseen
        self._unseen = None
        loss, norm, due = reading.values()
        self._is_due = due > 0
        if not (math.isfinite(loss) and math.isfinite(norm)):
            logger.warning("step %d: the loss is %g and the length of its gradient %g", record.step, loss, norm)
            return False
        self._history.add(Step(**{**vars(record), "loss": loss, "gradient_norm": norm}))
        if self._progress is not None:
            said = f"loss {loss:.3f}"
            if self._history.validations:
                said += f"  best {self._metric} {self._history.best.score:.3f}"
            self._progress(record.step, self._steps, said)
        return True

    # Rows

    def _batches(self) -> Iterator[tuple[int, Sequence[int]]]:
        """Epoch and rows of each step that is still to do now, over all processes."""
        return self._batches_from(*divmod(self._step, self._order.batches))

    def _batches_from(self, first: int, position: int) -> Iterator[tuple[int, Sequence[int]]]:
        for epoch in range(first, self._recipe.epochs):
            for batch in self._order.epoch(epoch)[position:]:
                yield epoch, batch.tolist()
            position = 0

    def _share_of(self, numbers: Sequence[int]) -> tuple[Sequence[int], float]:
        """This process's rows of a step, and their weight. Without any it computes one for nothing, for all must take part."""
        own = numbers[self._accelerator.process_index :: self._accelerator.num_processes]
        weight = 1 / max(1, self._lesson.count(numbers, words=self._has_words))
        return (own, weight) if own else (numbers[:1], 0.0)

    def _wanted(self, numbers: Sequence[int]) -> Targets:
        return lambda start, rows: self._lesson.wanted(numbers[start : start + len(rows)], rows)

    def _load(self) -> Iterator[Sequence[Row]]:
        """This process's rows of each of those steps, ahead of time where other processes decode."""
        loader: Any = torch.utils.data.DataLoader(
            self._rows,
            batch_sampler=_Keys(
                [(epoch, number) for number in self._share_of(numbers)[0]] for epoch, numbers in self._batches()
            ),
            collate_fn=list,
            num_workers=self._loaders,
            multiprocessing_context="spawn" if self._loaders else None,
        )
        return iter(loader)

    # Between epochs

    def _validate(self, epoch: int) -> None:
        if self._takes_last:
            self._best = dict(self._grafted.weights())
        if self._validator is None:
            return
        validation = self._validator.judge(self._grafted, epoch)
        if self._accelerator.num_processes > 1:  # so that all stop after the same epoch
            from accelerate.utils import broadcast_object_list

            validation = broadcast_object_list([validation])[0]
        self._history.add(validation)
        if self._history.best is validation:
            self._best = dict(self._grafted.weights())

    def _keep(self) -> None:
        if self._checkpoints is None or not self._accelerator.is_main_process:
            return
        self._checkpoints.save(
            TrainingState(
                step=self._step,
                weights=self._grafted.weights(),
                best=self._best,
                optimizer=optimizer_tensors(self._stepper.optimizer),
                facts={"history": self._history.to_dict(), "micro_batch": self._stepper.micro_batch},
            )
        )

    def _resume(self) -> None:
        state = None if self._checkpoints is None else self._checkpoints.load()
        if state is None:
            self._history.clear()  # whatever a run logged that was killed before its first checkpoint
            return
        self._step, self._stepper.micro_batch = state.step, state.facts["micro_batch"]
        self._grafted.restore(state.weights)
        self._best = {name: tensor.to(self._accelerator.device) for name, tensor in state.best.items()}
        restore_optimizer(self._stepper.optimizer, state.optimizer)
        self._history.restore(state.facts["history"])
        logger.info("going on after step %d of %d", self._step, self._steps)


class _Keys:
    """What loaders are asked for, made step by step: a run may have many of them."""

    def __init__(self, keys: Iterable[list[tuple[int, int]]]) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self._keys)


DIVERGED = "the loss was not finite any more; the best model before that is kept"
