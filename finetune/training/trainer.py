"""The training loop.

Whatever is random in it is a function of the seed and of the number of a step or row, and the learning rate is one of the step:
so a run that goes on from a checkpoint ends, on a CPU, with the very bits of one that was never stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.strategy import Plan, TrainedGroup
from finetune.training.checkpoints import Checkpoints, TrainingState
from finetune.training.grafted import Grafted
from finetune.training.history import History, Step, Validation
from finetune.training.loss import LOSSES
from finetune.training.optimizer import build_optimizer, optimizer_tensors, restore_optimizer, set_learning_rates
from finetune.training.order import RowOrder
from finetune.training.recipe import Recipe
from finetune.training.rows import TrainingRows, random_seed
from finetune.training.schedule import learning_rate_share
from finetune.training.validation import Validator
from models.batch import Row
from models.errors import OutOfMemory
from models.head import Head
from models.task import Task

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 300.0
Progress = Callable[[int, int, str], None]
"""Called with (done, total, how it goes)."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        head: as it was after the best epoch; so is the backbone, which was trained in place.
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
        targets: of the rows, as the loss wants them.
        validator: judges the model after each epoch.
        accelerator: device, precision and processes.
        checkpoints: where it goes on from, and what it leaves; None keeps nothing.
        history: empty; filled in the course of the run.
        checkpoint_seconds: between checkpoints; there is one after each epoch as well.
        loaders: processes that decode images; with 0 this one does.
    """

    def __init__(
        self,
        grafted: Grafted,
        plan: Plan,
        recipe: Recipe,
        *,
        task: Task,
        rows: TrainingRows,
        targets: torch.Tensor,
        validator: Validator,
        accelerator: Accelerator,
        checkpoints: Checkpoints | None,
        history: History,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        loaders: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self._grafted, self._plan, self._recipe = grafted, plan, recipe
        self._rows, self._targets, self._loss = rows, targets, LOSSES[task.traits.loss]
        self._validator, self._checkpoints, self.history = validator, checkpoints, history
        self._checkpoint_seconds, self._loaders = checkpoint_seconds, loaders
        self._progress = progress
        head = TrainedGroup(name="head", parameters=dict(grafted.head.named_parameters()))
        optimizer = build_optimizer([*plan.groups, head], recipe)
        self._accelerator = accelerator
        self._model, self._optimizer = accelerator.prepare(grafted, optimizer)
        lengths = None if rows.texts is None else [len(row.ids) for row in rows.texts]
        self._order = RowOrder(len(rows), batch_size=recipe.batch_size, seed=recipe.seed, lengths=lengths)
        self._steps = recipe.epochs * self._order.batches
        own = -(-recipe.batch_size // accelerator.num_processes)
        self._micro_batch = min(recipe.micro_batch_size or own, own)
        self._step = 0
        self._best: dict[str, torch.Tensor] = {}

    def run(self) -> Outcome:
        """Trains, from the last checkpoint where there is one, and leaves the best model in place.

        Raises:
            DatasetInvalid: an example changed or cannot be read any more.
            OutOfMemory: not even one row fits on the device.
            StorageFailed: a checkpoint cannot be written; the last one is intact.
        """
        self._resume()
        if not self.history.validations:
            self._validate(0)
        stopped = self._learn()
        self._grafted.restore(self._best)
        self._plan.finish()
        self._grafted.eval()
        return Outcome(head=self._grafted.trained_head(), history=self.history, stopped=stopped)

    def _learn(self) -> str | None:
        unseen: _Unseen | None = None
        kept_at = time.monotonic()
        patience = self._recipe.patience
        for number, rows in zip(self._numbers(self._step), self._load(), strict=True):
            if self.history.epochs_without_gain >= patience:
                return f"no better score in {patience} epochs"
            started = _Unseen(self, self._step, len(number), *self._take_step(rows, number))
            if unseen is not None and not unseen.record():
                return _DIVERGED
            unseen = started
            self._step += 1
            is_epoch_end = self._step % self._order.batches == 0
            if is_epoch_end or time.monotonic() - kept_at > self._checkpoint_seconds:
                if not unseen.record():
                    return _DIVERGED
                unseen = None
                if is_epoch_end:
                    self._validate(self._step // self._order.batches)
                self._keep()
                kept_at = time.monotonic()
        if self._step < self._steps:
            return f"no better score in {patience} epochs"
        return None

    # Steps

    def _numbers(self, start: int) -> Iterator[Sequence[int]]:
        """The rows of each step that is still to do, over all processes."""
        first, position = divmod(start, self._order.batches)
        for epoch in range(first, self._recipe.epochs):
            for batch in self._order.epoch(epoch)[position:]:
                yield batch.tolist()
            position = 0

    def _load(self) -> Iterator[Sequence[Row]]:
        """This process's rows of each of those steps, ahead of time where other processes decode."""
        loader: Any = torch.utils.data.DataLoader(
            self._rows,
            batch_sampler=_Keys(self),
            collate_fn=list,
            num_workers=self._loaders,
            multiprocessing_context="spawn" if self._loaders else None,
        )
        return iter(loader)

    def own(self, numbers: Sequence[int]) -> Sequence[int]:
        """This process's share of a step. One that gets none takes a row that then counts nothing, for all must take part."""
        mine = numbers[self._accelerator.process_index :: self._accelerator.num_processes]
        return mine or numbers[:1]

    def _take_step(self, rows: Sequence[Row], numbers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradient norm of one step of the optimiser, still on the device."""
        share = learning_rate_share(self._step, steps=self._steps, warmup=self._recipe.warmup)
        set_learning_rates(self._optimizer, share)
        self._model.train()
        while True:
            try:
                loss = self._add_gradients(rows, numbers)
                break
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve()
        norm = self._accelerator.clip_grad_norm_(self._model.parameters(), self._recipe.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss, norm

    def _add_gradients(self, rows: Sequence[Row], numbers: Sequence[int]) -> torch.Tensor:
        process, processes = self._accelerator.process_index, self._accelerator.num_processes
        has_share = process < len(numbers)
        targets = self._targets[self.own(numbers)]
        parts = range(0, len(rows), self._micro_batch)
        total = torch.zeros((), device=self._accelerator.device)
        for start in parts:
            end = start + self._micro_batch
            torch.manual_seed(random_seed(self._recipe.seed, self._step, process, start))  # dropout's
            batch = self._rows.preprocessor.collate(rows[start:end]).to(self._accelerator.device)
            # Processes exchange gradients once a step.
            with nullcontext() if end >= len(rows) else self._accelerator.no_sync(self._model):
                logits = self._model(batch)
                losses_B = self._loss(
                    logits, targets[start:end].to(self._accelerator.device), self._recipe.label_smoothing
                )
                loss = losses_B.sum() * (has_share / len(numbers))
                self._accelerator.backward(loss * processes)  # as they are averaged over the processes
            total += loss.detach()
        return total

    def _halve(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        if self._micro_batch == 1 or self._accelerator.num_processes > 1:
            raise OutOfMemory("a batch does not fit into memory; use a smaller --micro-batch-size")
        self._micro_batch = -(-self._micro_batch // 2)
        logger.warning("out of memory: from now on %d rows at a time", self._micro_batch)
        if self._accelerator.device.type == "cuda":
            torch.cuda.empty_cache()

    # Between steps

    def _validate(self, epoch: int) -> None:
        validation = self._validator.judge(self._grafted, epoch)
        if self._accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            validation = broadcast_object_list([validation])[0]
        self.history.add(validation)
        if self.history.best is validation:
            self._best = dict(self._grafted.weights())

    def _keep(self) -> None:
        if self._checkpoints is None or not self._accelerator.is_main_process:
            return
        self._checkpoints.save(
            TrainingState(
                step=self._step,
                weights=self._grafted.weights(),
                best=self._best,
                optimizer=optimizer_tensors(self._optimizer.optimizer),
                facts={"history": self.history.to_dict(), "micro_batch": self._micro_batch},
            )
        )

    def _resume(self) -> None:
        state = None if self._checkpoints is None else self._checkpoints.load()
        if state is None:
            return
        device = self._accelerator.device
        self._step, self._micro_batch = state.step, state.facts["micro_batch"]
        self._grafted.restore(state.weights)
        self._best = {name: tensor.to(device) for name, tensor in state.best.items()}
        restore_optimizer(self._optimizer.optimizer, state.optimizer)
        self.history.restore(state.facts["history"])
        logger.info("going on after step %d of %d", self._step, self._steps)

    def report(self, record: Step) -> None:
        """Takes a step into the history, and shows it."""
        self.history.add(record)
        if self._progress is not None:
            best = self.history.best
            self._progress(record.step, self._steps, f"loss {record.loss:.3f}, best {best.score:.3f}")


_DIVERGED = "the loss was not finite any more; what was best before is kept"


class _Unseen:
    """A step whose numbers are still on the device: to look at them at once would keep the device waiting."""

    def __init__(self, trainer: Trainer, step: int, rows: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
        self._trainer, self._step, self._rows, self._loss, self._norm = trainer, step, rows, loss, norm

    def record(self) -> bool:
        """Takes it into the history; False where it is not finite."""
        loss, norm = float(self._loss), float(self._norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return False
        self._trainer.report(self._step, self._rows, loss, norm)
        return True


class _Keys:
    """What this process's loaders are asked for: for each step, (epoch, row) of each row."""

    def __init__(self, steps: Callable[[], Iterator[tuple[int, Sequence[int]]]]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return ([(epoch, number) for number in numbers] for epoch, numbers in self._steps())


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
