"""What executes a backbone on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from models.backbone import BackboneConfig, Modality
from models.batch import ImageRow, TextRow, collate
from models.features import FeatureKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.backbone_store import StoredBackbone
    from models.batch import Batch
    from models.batch_cost import BatchCost
    from models.features import Features
    from models.precision import Precision


class Engine(Protocol):
    """The seam to whatever runs a backbone: torch, a graph engine, a remote server (`service.triton.engine`).

    Calls may come from several threads at once: some serve while another checks a version that is being loaded.

    Attributes:
        identity: engine, library version and precision: part of what identifies a feature.
        streams: batches that it computes at a time; whoever wants all of the device asks from so many threads.
        cost: of its batches.
    """

    identity: str
    streams: int
    cost: BatchCost

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        """Features of a batch on the CPU, fp32, in the batch's order.

        Args:
            kind: the one that the engine was made for.

        Raises:
            MemoryError: the batch is too large for the device.
            DeviceFailed: the device answers nothing any more in this process.
            EngineUnavailable: what computes is elsewhere, and does not answer now.
            DeadlineExceeded: it did not answer in time (`models.deadline`).
        """
        ...

    def warm_up(self) -> None:
        """One real inference, so that the first request does not pay for lazy work."""
        ...


class EngineSource(Protocol):
    """Makes the engines of a process; `models.engine_factory.EngineFactory` makes those that compute in it.

    An engine is made, compared with others and measured for one kind of features.
    """

    def precisions(self, stored: StoredBackbone, kind: FeatureKind = FeatureKind.POOLED) -> Sequence[Precision]:
        """In which precisions a backbone can be computed, the preferred one first, and fp32 last."""
        ...

    def build(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> Engine:
        """The engine of a backbone; raises `GraftworkError` where there is none for this precision."""
        ...

    def exact(self, stored: StoredBackbone) -> Engine | None:
        """The engine whose features, of any kind, are right on this device by definition, however slow it is; None without one."""
        ...

    def reason(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> str:
        """Why it is that engine."""
        ...


def blank_batch(config: BackboneConfig) -> Batch:
    """A batch of one row that every backbone of this kind can compute."""
    if config.modality is Modality.IMAGE:
        pixels_CHW = torch.zeros(*config.options["input_size"], dtype=torch.uint8)
        return collate([ImageRow(pixels_CHW=pixels_CHW)])
    return collate([TextRow(ids=[0] * 8, segments=[0] * 8)])
