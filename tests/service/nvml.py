"""A stand-in for ``pynvml`` on a machine with GPUs; every value of a GPU says which one it is of."""

from __future__ import annotations

import threading
from collections.abc import Collection
from types import ModuleType, SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """As theirs, of which each error is a class of its own."""


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801
    """There is no NVIDIA driver."""


class Nvml(ModuleType):
    """The module, and what goes wrong in it.

    Args:
        gpus: how many there are.

    Attributes:
        broken: names of functions that fail: of all GPUs, or with ``:1`` behind it of one.
        gone: whatever is asked raises it.
        answers: whoever asks how many there are waits until it is set.
        begun: how often it was initialised; while it is, further times are only counted, as by NVML.
    """

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, gpus: int) -> None:
        super().__init__("pynvml")
        self.gpus = gpus
        self.broken: Collection[str] = ()
        self.gone: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.begun = 0
        self._users = 0

    def _check(self, name: str, gpu: int) -> int:
        if self.gone is not None:
            raise self.gone
        if name in self.broken or f"{name}:{gpu}" in self.broken:
            raise NVMLError(f"{name}: Not Supported")
        return gpu

    def nvmlInit(self) -> None:  # noqa: N802
        self._check("nvmlInit", 0)
        self._users += 1
        self.begun += self._users == 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self._users -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self.answers.wait(30)
        self._check("nvmlDeviceGetCount", 0)
        return self.gpus

    def __getattr__(self, name: str) -> Any:
        values: dict[str, Any] = {
            "nvmlDeviceGetHandleByIndex": lambda gpu: gpu,
            "nvmlDeviceGetUUID": "GPU-{}".format,
            "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=10 + gpu, memory=99),
            "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(used=1000 + gpu, total=2000 + gpu, free=0),
            "nvmlDeviceGetPowerUsage": lambda gpu: 300_000 + 1000 * gpu,
            "nvmlDeviceGetEnforcedPowerLimit": lambda gpu: 700_000 + 1000 * gpu,
            "nvmlDeviceGetTemperature": lambda gpu: 50 + gpu,
        }
        if name not in values:
            raise AttributeError(name)
        return lambda gpu, *_: values[name](self._check(name, gpu))
