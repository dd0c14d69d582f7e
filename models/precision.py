"""The numbers that an engine computes with."""

from __future__ import annotations

from enum import StrEnum


class Precision(StrEnum):
    """Single precision, or 8-bit integers for weights and activations."""

    FP32 = "fp32"
    INT8 = "int8"
