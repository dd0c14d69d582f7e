"""What the GPUs of this machine are doing, asked of NVIDIA's management library (NVML) whenever metrics are read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)

MOST_SECONDS = 1.0  # for all of it: a call takes a millisecond, but may never return where a driver hangs


@dataclass(frozen=True, kw_only=True)
class GpuReading:
    """One GPU at one moment; None for what it does not say, as a part of a GPU (MIG) has no utilisation.

    Attributes:
        gpu: its number, as ``nvidia-smi`` has it; CUDA may count differently.
        uuid: what it is called everywhere.
        utilization: of the last moment, the share in which a kernel ran, 0 to 1.
        memory_used, memory_total: bytes.
        power, power_limit: watts.
        temperature: degrees Celsius.
    """

    gpu: int
    uuid: str
    utilization: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    power: float | None = None
    power_limit: float | None = None
    temperature: float | None = None


_GAUGES = {
    "utilization": ("graftwork_gpu_utilization_ratio", "Share of the last moment in which the GPU was computing."),
    "memory_used": ("graftwork_gpu_memory_used_bytes", "Memory of the GPU that is in use, by whomever."),
    "memory_total": ("graftwork_gpu_memory_size_bytes", "Memory that the GPU has."),
    "power": ("graftwork_gpu_power_watts", "What the GPU draws."),
    "power_limit": ("graftwork_gpu_power_limit_watts", "What the GPU may draw."),
    "temperature": ("graftwork_gpu_temperature_celsius", "How hot the GPU is."),
}


def gpu_exposition(readings: Sequence[GpuReading]) -> str:
    """The text format of Prometheus; nothing without a GPU."""
    parts = []
    for field, (name, text) in _GAUGES.items():
        lines = [
            f'{name}{{gpu="{reading.gpu}",uuid="{reading.uuid}"}} {value}\n'
            for reading in readings
            if (value := getattr(reading, field)) is not None
        ]
        if lines:
            parts += [f"# HELP {name} {text}\n# TYPE {name} gauge\n", *lines]
    return "".join(parts)


class GpuMetrics:
    """The GPUs that NVML shows here: those of the machine, or of the container.

    Nothing of it can fail or wait for long: a value that cannot be had is left out, and so are all where NVML is not there, or
    does not answer in time. It is tried again when metrics are read next.
    """

    def __init__(self) -> None:
        self._nvml: ModuleType | None = None  # once it has begun
        self._asking: threading.Thread | None = None
        self._lock = threading.Lock()
        self._complaint = ""

    def read(self) -> Sequence[GpuReading]:
        """Every GPU, within ``MOST_SECONDS``; in any thread but the event loop's."""
        found: list[GpuReading] = []
        with self._lock:
            if self._asking is not None and self._asking.is_alive():
                return ()  # the driver still hangs
            # A daemon, and none of a pool's: whoever hangs in the driver must not hold up the end of the process.
            self._asking = threading.Thread(target=lambda: found.extend(self._read()), name="nvml", daemon=True)
            self._asking.start()
            self._asking.join(MOST_SECONDS)
            if self._asking.is_alive():
                self._complain(f"it has not answered for {MOST_SECONDS:g} s")
                return ()
        return found

    def _read(self) -> list[GpuReading]:
        try:
            if self._nvml is None:
                import pynvml  # its 7,000 lines are for machines with a GPU only

                pynvml.nvmlInit()
                self._nvml = pynvml
            readings = [_reading(self._nvml, index) for index in range(self._nvml.nvmlDeviceGetCount())]
        except Exception as error:
            if type(error).__name__ != "NVMLError_LibraryNotFound":  # the usual thing without a GPU
                self._complain(str(error))
            self._end()  # a driver that was loaded anew wants a new beginning
            return []
        self._complaint = ""
        return [reading for reading in readings if reading is not None]

    def _end(self) -> None:
        """Without it NVML would only count how often it has begun, and stay as it is."""
        if self._nvml is not None:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._nvml = None

    def _complain(self, text: str) -> None:
        if text != self._complaint:  # once, not with every scrape
            logger.warning("no metrics of GPUs from NVML: %s", text)
        self._complaint = text


def _reading(nvml: ModuleType, index: int) -> GpuReading | None:
    """One GPU; None where it cannot even be named, as one that has fallen off its bus."""
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = nvml.nvmlDeviceGetUUID(device)
    except nvml.NVMLError:
        return None

    def ask(call: Callable[[], Any]) -> Any:
        with suppress(nvml.NVMLError, AttributeError):  # not for this GPU; not in this release of the bindings
            return call()
        return None

    memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(device))
    return GpuReading(
        gpu=index,
        uuid=uuid,
        utilization=ask(lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100),
        memory_used=None if memory is None else memory.used,
        memory_total=None if memory is None else memory.total,
        power=ask(lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1000),
        power_limit=ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(device) / 1000),
        temperature=ask(lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)),
    )
