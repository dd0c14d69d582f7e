"""How good a model is that learns, on rows that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from finetune.predictions import Predictions
from finetune.primary_metric import METRICS
from finetune.training.grafted import Grafted
from finetune.training.history import Validation
from finetune.training.lesson import Lesson
from finetune.training.loss import LOSSES
from finetune.training.rows import TrainingRows
from models.batch import TextRow
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
        self._rows, self._lesson, self._task, self._labels, self._device = rows, lesson, task, labels, device
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
        logits, losses, words = [], [], []
        with torch.inference_mode():
            for numbers in self._batches:
                rows = [self._rows[0, number] for number in numbers]
                wanted = self._lesson.wanted(numbers, rows)
                logits_VC = grafted(self._rows.preprocessor.collate(rows).to(self._device), rows)
                losses.append(self._loss(logits_VC, wanted.to(self._device), 0.0))
                logits.append(logits_VC)
                words += [row.words.read for row in rows if isinstance(row, TextRow) and row.words is not None]
        predictions = Predictions.of(
            torch.cat(logits).cpu().numpy(),
            words or None,
            task=self._task,
            classes=self._labels,
            threshold=0.0,  # of logits: a label that is as likely as not
        )
        truths = [self._lesson.examples[number].label for numbers in self._batches for number in numbers]
        (score,) = self._metric(truths, predictions.answers)(np.arange(len(truths))[None])
        return Validation(epoch=epoch, score=float(score), loss=float(torch.cat(losses).mean()))
