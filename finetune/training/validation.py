"""How good a model is that learns, on rows that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from finetune.training.grafted import Grafted
from finetune.training.history import Validation
from finetune.training.loss import LOSSES
from finetune.training.rows import TrainingRows
from models.task import Task

Metric: TypeAlias = Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]

BATCH_ROWS = 32


class Validator:
    """Judges a model.

    Args:
        rows: as they will be served: no augmentation.
        targets: of the rows, as the loss wants them.
        task: decides loss and metric.
        device: that the model is on.
    """

    def __init__(self, rows: TrainingRows, targets: torch.Tensor, *, task: Task, device: torch.device) -> None:
        self._rows, self._targets, self._device = rows, targets, device
        self._loss, self._metric = LOSSES[task.traits.loss], METRICS[task.traits.primary_metric]
        every = np.arange(len(rows))
        if rows.texts is not None:  # those of similar length together
            every = np.argsort([len(row.ids) for row in rows.texts], kind="stable")
        self._batches: Sequence[list[int]] = [
            every[start : start + BATCH_ROWS].tolist() for start in range(0, len(every), BATCH_ROWS)
        ]

    def judge(self, grafted: Grafted, epoch: int) -> Validation:
        """Score and loss of a model, which it leaves in eval mode."""
        grafted.eval()
        logits, losses = [], []
        with torch.inference_mode():
            for numbers in self._batches:
                batch = self._rows.preprocessor.collate([self._rows[0, number] for number in numbers])
                logits_BC = grafted(batch.to(self._device))
                losses.append(self._loss(logits_BC, self._targets[numbers].to(self._device), 0.0))
                logits.append(logits_BC)
        order = [number for numbers in self._batches for number in numbers]
        return Validation(
            epoch=epoch,
            score=self._metric(torch.cat(logits).cpu().numpy(), self._targets[order].numpy()),
            loss=float(torch.cat(losses).mean()),
        )


def _accuracy(logits_NC: npt.NDArray[Any], targets_N: npt.NDArray[Any]) -> float:
    return float((logits_NC.argmax(axis=1) == targets_N).mean())


def _macro_f1(logits_NC: npt.NDArray[Any], targets_NC: npt.NDArray[Any]) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(targets_NC, logits_NC > 0, average="macro", zero_division=0))


def _spearman(values_N1: npt.NDArray[Any], targets_N: npt.NDArray[Any]) -> float:
    """0 where all values are equal."""
    from scipy.stats import rankdata

    ranks, wanted = rankdata(values_N1[:, 0]), rankdata(targets_N)
    if np.ptp(ranks) == 0 or np.ptp(wanted) == 0:
        return 0.0
    return float(np.corrcoef(ranks, wanted)[0, 1])


METRICS: Mapping[str, Metric] = {"accuracy": _accuracy, "macro_f1": _macro_f1, "spearman": _spearman}
"""By `models.task.TaskTraits.primary_metric`: logits and targets to a score, higher is better."""
