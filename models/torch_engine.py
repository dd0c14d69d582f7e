"""Runs a backbone with torch itself: on every device, and for every architecture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from models.backbone import Modality
from models.batch_cost import UNMEASURED, BatchCost
from models.engine import blank_batch
from models.errors import DeviceFailed
from models.features import FeatureKind, Features

if TYPE_CHECKING:
    from models.backbone_store import TorchBackbone
    from models.batch import Batch

TORCH = "torch"


class TorchEngine:
    """Runs a torch backbone in fp32.

    Args:
        backbone: in eval mode.
        device: ``cpu``, ``cuda:0``, ...
        cost: of its batches, where that was measured.
    """

    def __init__(self, backbone: TorchBackbone, device: str = "cpu", *, cost: BatchCost = UNMEASURED) -> None:
        self._device = torch.device(device)
        self._backbone = backbone.to(self._device)
        if self._device.type == "cpu" and backbone.config.modality is Modality.IMAGE:
            self._backbone = self._backbone.to(memory_format=torch.channels_last)
        self._config = backbone.config
        self.streams = 1
        self.cost = cost
        self.identity = f"torch-{torch.__version__}/{self._device.type}/fp32"

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        with torch.inference_mode(), _device_errors(self._device):
            features = self._backbone(batch.to(self._device), kind)
            mask_BT = None if features.mask_BT is None else features.mask_BT.cpu()
            return Features(kind=kind, values=features.values.float().cpu(), mask_BT=mask_BT)

    def warm_up(self) -> None:
        self.features(blank_batch(self._config), FeatureKind.POOLED)


@contextmanager
def _device_errors(device: torch.device) -> Iterator[None]:
    """Torch's errors in our terms. After an `AcceleratorError` every further call on the device fails (CUDA calls it sticky)."""
    try:
        yield
    except torch.OutOfMemoryError:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # blocks that are too small for one batch may make room for the next, smaller one
        raise MemoryError("the device has too little memory") from None
    except torch.AcceleratorError as error:
        raise DeviceFailed("the device failed") from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):  # torch has no class of its own for it
            raise MemoryError("the machine has too little memory") from None
        raise
