"""How good a model is that learns, on rows that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from finetune.calibration import fit_sigmoid_temperature, fit_temperature
from finetune.intervals import bootstrap
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
RESAMPLES = 200  # of the rows, for a score's standard error


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
        logits, targets, words = [], [], []
        with torch.inference_mode():
            for numbers in self._batches:
                rows = [self._rows[0, number] for number in numbers]
                logits.append(grafted(self._rows.preprocessor.collate(rows).to(self._device), rows).float().cpu())
                targets.append(self._lesson.wanted(numbers, rows))
                words += [row.words.read for row in rows if isinstance(row, TextRow) and row.words is not None]
        logits_VC = torch.cat(logits)
        predictions = Predictions.of(
            logits_VC.numpy(),
            words or None,
            task=self._task,
            classes=self._labels,
            threshold=0.0,  # of logits: a label that is as likely as not
        )
        truths = [self._lesson.examples[number].label for numbers in self._batches for number in numbers]
        statistic = self._metric(truths, predictions.answers)
        resampled_R = bootstrap(statistic, len(truths), seed=0, resamples=RESAMPLES)
        return Validation(
            epoch=epoch,
            score=float(statistic(np.arange(len(truths))[None])[0]),
            error=float(resampled_R.std()),
            loss=self._calibrated_loss(logits_VC, torch.cat(targets)),
        )

    def _calibrated_loss(self, logits_VC: torch.Tensor, targets: torch.Tensor) -> float:
        temperature = 1.0
        if logits_VC.isfinite().all():
            if self._task is Task.MULTI_LABEL:
                temperature = fit_sigmoid_temperature(logits_VC.numpy(), targets.numpy() > 0)
            elif self._task is not Task.REGRESSION:
                temperature = fit_temperature(logits_VC.numpy(), targets.numpy())
        return float(self._loss(logits_VC / temperature, targets, 0.0).mean())
