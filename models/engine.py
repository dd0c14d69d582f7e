"""What executes a backbone on a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch

from models.backbone import BackboneConfig, Modality
from models.batch import Batch, ImageRow, TextRow, collate
from models.errors import DeviceFailed
from models.features import FeatureKind, Features

if TYPE_CHECKING:
    from models.backbone_store import StoredBackbone, TorchBackbone


class Engine(Protocol):
    """The seam to whatever runs a backbone: torch here; graph engines and a remote server look the same.

    Calls may come from two threads at once: one serves while another checks a version that is being loaded.

    Attributes:
        identity: engine, library version and precision: part of what identifies a feature.
    """

    identity: str

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        """Features of a batch on the CPU, fp32, in the batch's order.

        Raises:
            MemoryError: the batch is too large for the device.
            DeviceFailed: the device answers nothing any more in this process.
        """
        ...

    def warm_up(self) -> None:
        """One real inference, so that the first request does not pay for lazy work."""
        ...


class TorchEngine:
    """Runs a torch backbone in fp32.

    Args:
        backbone: in eval mode.
        device: ``cpu``, ``cuda:0``, ...
    """

    def __init__(self, backbone: TorchBackbone, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._backbone = backbone.to(self._device)
        if self._device.type == "cpu" and backbone.config.modality is Modality.IMAGE:
            self._backbone = self._backbone.to(memory_format=torch.channels_last)
        self._config = backbone.config
        self.identity = f"torch-{torch.__version__}/{self._device.type}/fp32"

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        with torch.inference_mode(), _device_errors():
            features = self._backbone(batch.to(self._device), kind)
            mask_BT = None if features.mask_BT is None else features.mask_BT.cpu()
            return Features(kind=kind, values=features.values.float().cpu(), mask_BT=mask_BT)

    def warm_up(self) -> None:
        self.features(_blank_batch(self._config), FeatureKind.POOLED)


@contextmanager
def _device_errors() -> Iterator[None]:
    """Torch's errors in our terms. After an `AcceleratorError` every further call on the device fails (CUDA calls it sticky)."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise MemoryError("the device has too little memory") from None
    except torch.AcceleratorError as error:
        raise DeviceFailed("the device failed") from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):  # torch has no class of its own for it
            raise MemoryError("the machine has too little memory") from None
        raise


def build_engine(stored: StoredBackbone, device: str) -> Engine:
    """The engine that computes a stored backbone's features, in training and in serving alike.

    Args:
        stored: a backbone on disk.
        device: ``cpu``, ``cuda:0``, ...
    """
    return TorchEngine(stored.load(), device)


def _blank_batch(config: BackboneConfig) -> Batch:
    if config.modality is Modality.IMAGE:
        pixels_CHW = torch.zeros(*config.options["input_size"], dtype=torch.uint8)
        return collate([ImageRow(pixels_CHW=pixels_CHW)])
    return collate([TextRow(ids=[0] * 8, segments=[0] * 8)])
