"""One step of the optimiser, in as many parts as memory asks for, by as many processes as there are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeAlias

import torch

from finetune.strategy import Plan, TrainedGroup
from finetune.training.grafted import Grafted
from finetune.training.loss import Loss
from finetune.training.optimizer import build_optimizer, set_learning_rates
from finetune.training.recipe import Recipe
from finetune.training.rows import random_seed
from finetune.training.schedule import learning_rate_share
from models.batch import Row
from models.errors import OutOfMemory
from models.preprocessor import Preprocessor

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

Targets: TypeAlias = Callable[[int, Sequence[Row]], torch.Tensor]


class Stepper:
    """Computes gradients and takes steps.

    What it does in a step depends on the step's number and rows alone, and on what the optimiser remembers.

    Args:
        grafted: what learns.
        plan: which parameters, and how fast.
        recipe: the settings.
        steps: of the whole run.
        loss: of logits and targets.
        preprocessor: puts rows into batches.
        accelerator: device, precision and processes.

    Attributes:
        micro_batch: rows that are on the device at a time; halved when memory is short.
    """

    def __init__(
        self,
        grafted: Grafted,
        plan: Plan,
        recipe: Recipe,
        *,
        steps: int,
        loss: Loss,
        preprocessor: Preprocessor,
        accelerator: Accelerator,
    ) -> None:
        self._recipe, self._steps, self._loss = recipe, steps, loss
        self._preprocessor, self._accelerator = preprocessor, accelerator
        head = TrainedGroup(name="head", parameters=dict(grafted.head.named_parameters()))
        self.optimizer = build_optimizer([*plan.groups, head], recipe)
        self._model, self._prepared = accelerator.prepare(grafted, self.optimizer)
        own = -(-recipe.batch_size // accelerator.num_processes)
        self.micro_batch = min(recipe.micro_batch_size or own, own)

    def learning_rate(self, step: int) -> float:
        """Of the head and the last layer group."""
        return self._recipe.learning_rate * self._share(step)

    def _share(self, step: int) -> float:
        return learning_rate_share(step, steps=self._steps, warmup=self._recipe.warmup)

    def take(
        self, step: int, rows: Sequence[Row], targets: Targets, weight: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes a step.

        Args:
            step: from 0.
            rows: this process's.
            targets: of some of these rows, by the index of the first one.
            weight: of a vector in the mean over all processes: one over their number; 0 where these rows do not count.

        Returns:
            The step's loss, as far as it is of this process, and its gradient's norm, both on the device: to look at them
            is to wait for it.

        Raises:
            OutOfMemory: not even one row fits on the device.
        """
        self._model.train()
        set_learning_rates(self.optimizer, self._share(step))
        while True:
            try:
                loss = self._add_gradients(step, rows, targets, weight)
                break
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
            self._halve()  # not where the error is caught: its traceback holds what did not fit
        norm = self._accelerator.clip_grad_norm_(self._model.parameters(), self._recipe.clip_norm)
        self._prepared.step()
        self._prepared.zero_grad(set_to_none=True)
        return loss, norm

    def _add_gradients(self, step: int, rows: Sequence[Row], targets: Targets, weight: float) -> torch.Tensor:
        accelerator, device = self._accelerator, self._accelerator.device
        total = torch.zeros((), device=device)
        for start in range(0, len(rows), self.micro_batch):
            part = rows[start : start + self.micro_batch]
            torch.manual_seed(random_seed(self._recipe.seed, step, accelerator.process_index, start))  # dropout's
            batch = self._preprocessor.collate(part).to(device)
            # Processes exchange gradients once a step.
            with nullcontext() if start + len(part) == len(rows) else accelerator.no_sync(self._model):
                wanted = targets(start, part).to(device)
                losses_V = self._loss(self._model(batch, part), wanted, self._recipe.label_smoothing)
                loss = losses_V.sum() * weight
                accelerator.backward(loss * accelerator.num_processes)  # over which gradients are averaged
            total += loss.detach()
        return total

    def _halve(self) -> None:
        self._prepared.zero_grad(set_to_none=True)
        if self.micro_batch == 1 or self._accelerator.num_processes > 1:
            raise OutOfMemory(
                "a batch does not fit into memory; use a smaller --micro-batch-size, or a smaller backbone"
            )
        self.micro_batch = -(-self.micro_batch // 2)
        logger.warning("out of memory: from now on %d rows at a time", self.micro_batch)
        if self._accelerator.device.type == "cuda":
            torch.cuda.empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
