"""How good a model is that learns, on rows that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from finetune.training.grafted import Grafted
from finetune.training.history import Validation
from finetune.training.lesson import Lesson
from finetune.training.loss import LOSSES
from finetune.training.metrics import METRICS
from finetune.training.rows import TrainingRows
from models.task import Task

BATCH_ROWS = 32


class Validator:
    """Judges a model.

    Args:
        rows: as they will be served: no augmentation.
        lesson: what they should give.
        task: decides loss and metric.
        labels: in the order of the head's rows.
        device: that the model is on.
    """

    def __init__(
        self, rows: TrainingRows, lesson: Lesson, *, task: Task, labels: Sequence[str], device: torch.device
    ) -> None:
        self._rows, self._lesson, self._labels, self._device = rows, lesson, labels, device
        self._loss, self._metric = LOSSES[task.traits.loss], METRICS[task.traits.primary_metric]
        order = np.arange(len(rows))
        if rows.lengths is not None:  # those of similar length together
            order = np.argsort(rows.lengths, kind="stable")
        self._batches: Sequence[list[int]] = [
            order[start : start + BATCH_ROWS].tolist() for start in range(0, len(order), BATCH_ROWS)
        ]

    def judge(self, grafted: Grafted, epoch: int) -> Validation:
        """Score and loss of a model, which it leaves in eval mode."""
        grafted.eval()
        logits, targets, losses = [], [], []
        with torch.inference_mode():
            for numbers in self._batches:
                rows = [self._rows[0, number] for number in numbers]
                wanted = self._lesson.wanted(numbers, rows)
                logits_VC = grafted(self._rows.preprocessor.collate(rows).to(self._device), rows)
                losses.append(self._loss(logits_VC, wanted.to(self._device), 0.0))
                logits.append(logits_VC)
                targets.append(wanted)
        score = self._metric(torch.cat(logits).cpu().numpy(), torch.cat(targets).numpy(), self._labels)
        return Validation(epoch=epoch, score=score, loss=float(torch.cat(losses).mean()))
