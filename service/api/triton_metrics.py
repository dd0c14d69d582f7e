"""Triton's metrics, by its names, for dashboards and autoscalers that were made for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from service.api.gpu_metrics import GpuReading
from service.api.metrics import UNKNOWN
from service.api.request_counts import VersionCounts

_REASONS = {
    "REJECTED": ("shed", "timeout"),
    "CANCELED": ("disconnected",),
    "BACKEND": ("failed",),
    "OTHER": ("client_error",),
}
_SUCCESS = "Number of successful inference requests, all batch sizes"
_FAILURE = "Number of failed inference requests, all batch sizes"
_COUNT = "Number of inferences performed (does not include cached requests)"
_EXEC_COUNT = "Number of model executions performed (does not include cached requests)"
_REQUEST = "Cumulative inference request duration in microseconds (includes cached requests)"
_QUEUE = "Cumulative inference queuing duration in microseconds (includes cached requests)"
_INPUT = "Cumulative compute input duration in microseconds (does not include cached requests)"
_INFER = "Cumulative compute inference duration in microseconds (does not include cached requests)"
_OUTPUT = "Cumulative inference compute output duration in microseconds (does not include cached requests)"
_PENDING = "Instantaneous number of pending requests awaiting execution per-model."

_OF_GPUS = {
    "utilization": ("nv_gpu_utilization", "GPU utilization rate [0.0 - 1.0)"),
    "memory_total": ("nv_gpu_memory_total_bytes", "GPU total memory, in bytes"),
    "memory_used": ("nv_gpu_memory_used_bytes", "GPU used memory, in bytes"),
    "power": ("nv_gpu_power_usage", "GPU power usage in watts"),
    "power_limit": ("nv_gpu_power_limit", "GPU power management limit in watts"),
}

Version: TypeAlias = tuple[str, str]  # its model and its number, as labels have them


def triton_exposition(users: Mapping[Version, int], counted: Mapping[Version, VersionCounts]) -> str:
    """The text format of Prometheus, as Triton writes it: counters without ``_total``.

    Args:
        users: how many requests are under way for each version that is served.
        counted: what is counted of each; in any thread, as it is copied first.
    """
    found = {version: counts for version, counts in list(counted.items()) if version[0] != UNKNOWN}
    nothing = VersionCounts()
    versions = sorted({*users, *found})
    counts = [found.get(version, nothing) for version in versions]
    labels = [f'{{model="{model}",version="{number}"}}' for model, number in versions]

    def family(name: str, text: str, values: Sequence[int], kind: str = "counter") -> str:
        lines = [f"{name}{label} {value}\n" for label, value in zip(labels, values, strict=True)]
        return _head(name, text, kind) + "".join(lines)

    failure = "nv_inference_request_failure"
    failures = [
        f'{failure}{{model="{model}",reason="{reason}",version="{number}"}} {sum(each.outcomes[o] for o in outcomes)}\n'
        for (model, number), each in zip(versions, counts, strict=True)
        for reason, outcomes in _REASONS.items()
    ]
    duration = "nv_inference_{}_duration_us".format
    return "".join(
        [
            family("nv_inference_request_success", _SUCCESS, [each.outcomes["ok"] for each in counts]),
            _head(failure, _FAILURE, "counter"),
            *failures,
            family("nv_inference_count", _COUNT, [each.rows for each in counts]),
            family("nv_inference_exec_count", _EXEC_COUNT, [each.executions for each in counts]),
            family(duration("request"), _REQUEST, [_microseconds(each.ok_seconds) for each in counts]),
            family(duration("queue"), _QUEUE, [_microseconds(each.queue.sum) for each in counts]),
            family(duration("compute_input"), _INPUT, [_microseconds(each.decode.sum) for each in counts]),
            family(duration("compute_infer"), _INFER, [_microseconds(each.compute.sum) for each in counts]),
            family(duration("compute_output"), _OUTPUT, [0 for _ in counts]),
            family("nv_inference_pending_request_count", _PENDING, [users.get(v, 0) for v in versions], "gauge"),
        ]
    )


def triton_gpu_exposition(readings: Sequence[GpuReading]) -> str:
    """The same for GPUs. Where one does not say something, that is left out of it; Triton says 0 then."""
    parts = []
    for field, (name, text) in _OF_GPUS.items():
        values = [(reading.uuid, getattr(reading, field)) for reading in readings]
        lines = [f'{name}{{gpu_uuid="{uuid}"}} {value}\n' for uuid, value in values if value is not None]
        if lines:
            parts += [_head(name, text, "gauge"), *lines]
    return "".join(parts)


def _head(name: str, text: str, kind: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
