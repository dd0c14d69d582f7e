"""The numbers that an engine computes with."""

from __future__ import annotations

from enum import StrEnum


class Precision(StrEnum):
    """Single precision, or 8-bit integers for weights and activations."""

    FP32 = "fp32"
    INT8 = "int8"

    def file(self, name: str) -> str:
        """What is kept once for each precision, by the name that it has for fp32: ``head.safetensors``, ``head-int8.safetensors``."""
        stem, dot, ending = name.rpartition(".")
        return name if self is Precision.FP32 else f"{stem}-{self}{dot}{ending}"
