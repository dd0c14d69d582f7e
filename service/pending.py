"""A request in a worker while its rows are on their way."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass, field

import torch

from models.batch import Row, TextRow
from models.head import probabilities
from service.messages import Timings
from service.registry import LoadedVersion


@dataclass(kw_only=True, eq=False)
class PendingRequest:
    """A request that is not answered yet.

    Attributes:
        predictions: one a row, filled in as rows are computed.
        missing: rows that are not computed yet.
        done: answered, failed or cancelled; whatever rows are left are not computed.
    """

    id: int
    version: LoadedVersion
    top_k: int | None
    truncate: bool
    predictions: list[dict[str, object] | None]
    missing: int
    decode_seconds: float = 0.0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    done: bool = False

    @property
    def timings(self) -> Timings:
        return Timings(decode=self.decode_seconds, queue=self.queue_seconds, compute=self.compute_seconds)


@dataclass(kw_only=True, eq=False)
class PendingRow:
    """One row of a request, ready for the device.

    Attributes:
        group: see `service.scheduler.Waiting`.
        ready_at: by the monotonic clock, seconds.
    """

    request: PendingRequest
    index: int
    row: Row
    group: Hashable
    ready_at: float = field(default_factory=time.monotonic)

    @property
    def abandoned(self) -> bool:
        return self.request.done

    def prediction(self, logits_C: torch.Tensor) -> dict[str, object]:
        """The answer for this row: the best label, and the scores of the ``top_k`` best, best first."""
        predictor = self.request.version.predictor
        scores_C = probabilities(logits_C, predictor.temperature)
        count = min(self.request.top_k or len(predictor.labels), len(predictor.labels))
        best = scores_C.topk(count)
        scores = {predictor.labels[i]: s for i, s in zip(best.indices.tolist(), best.values.tolist(), strict=True)}
        label = next(iter(scores))
        prediction: dict[str, object] = {"label": label, "score": scores[label], "scores": scores}
        if isinstance(self.row, TextRow) and self.row.truncated:
            prediction["truncated"] = True
        return prediction
