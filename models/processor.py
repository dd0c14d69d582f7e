"""The processor of this machine, as far as speed and bits depend on it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# Instructions that multiply 8-bit integers and add up in 32 bits; without them, sums of two products saturate at 16 bits.
_INT8 = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")


@cache
def processor() -> str:
    """Model and instruction sets, a line each."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    kept = sorted({line for line in lines if line.lower().startswith(("model name", "flags", "features"))})
    return "\n".join(kept) or platform.machine()


def int8_instructions(environment: Mapping[str, str] = os.environ) -> str:
    """What products of 8-bit integers are computed with: machines that agree in this give the same ones.

    Args:
        environment: may hold oneDNN's own limit, ``ONEDNN_MAX_CPU_ISA``.
    """
    flags = set(processor().split())
    found = next((name for name in _INT8 if name in flags), "plain")
    limit = environment.get("ONEDNN_MAX_CPU_ISA")
    return found if limit is None else f"{found}-{limit.lower()}"
