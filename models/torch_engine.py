"""Runs a backbone with torch itself: on every device, and for every architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

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
Arithmetic: TypeAlias = Literal["float32", "float16", "bfloat16"]

_SHORT: Mapping[Arithmetic, str] = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class TorchEngine:
    """Runs a torch backbone, whose weights stay in fp32; gives every kind of features.

    Args:
        backbone: in eval mode.
        device: ``cpu``, ``cuda:0``, ...
        arithmetic: of products and convolutions, where autocast deems it safe; halves are for GPUs, which are made for them.
        cost: of its batches, where that was measured.
    """

    def __init__(
        self,
        backbone: TorchBackbone,
        device: str = "cpu",
        *,
        arithmetic: Arithmetic = "float32",
        cost: BatchCost = UNMEASURED,
    ) -> None:
        self._device = torch.device(device)
        self._backbone = backbone.to(self._device)
        is_half = arithmetic != "float32"
        if backbone.config.modality is Modality.IMAGE and (is_half or self._device.type == "cpu"):
            self._backbone = self._backbone.to(memory_format=torch.channels_last)
        if not is_half and self._device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = (
                False  # with its 10 bits, what a row gives would depend on its batch mates
            )
        self._dtype = getattr(torch, arithmetic)
        self._config = backbone.config
        self.streams = 1
        self.cost = cost
        self.identity = f"torch-{torch.__version__}/{self._device.type}/{_SHORT[arithmetic]}"

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        try:
            return self._features(batch, kind)
        except torch.AcceleratorError as error:  # every further call on the device fails, too: CUDA calls it sticky
            raise DeviceFailed("the device failed") from error
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
                raise
        # Not where it is caught: the error's traceback holds all that the batch has allocated.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # blocks that are too small for one batch may make room for the next, smaller one
        raise MemoryError("the device has too little memory")

    def _features(self, batch: Batch, kind: FeatureKind) -> Features:
        with torch.inference_mode(), self._autocast():
            features = self._backbone(batch.to(self._device), kind)
            mask_BT = None if features.mask_BT is None else features.mask_BT.cpu()
            return Features(kind=kind, values=features.values.float().cpu(), mask_BT=mask_BT)

    def _autocast(self) -> torch.autocast:
        """A new one each time: it remembers what it found, and calls come from several threads."""
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32)

    def warm_up(self) -> None:
        self.features(blank_batch(self._config), FeatureKind.POOLED)
