"""Weights on disk: safetensors files, whose headers are looked at before anything is allocated for what they name.

No message says what stands in a file: somebody else may have written that.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file

from models import storage

HEADER_BYTES_MAX = 10_000_000  # safetensors itself stops at 100 MB
TENSORS_MAX = 20_000  # the largest backbones have a few thousand
_DAMAGED = "it is no intact safetensors file"


def parse_weights(data: bytes, *, most: int = TENSORS_MAX) -> dict[str, torch.Tensor]:
    """The tensors of a file that was read, all of which are finite.

    Args:
        data: its bytes.
        most: how many tensors there may be.

    Raises:
        ValueError: it is no safetensors file, or one with too large a header, too many tensors, or values that are not finite.
    """
    _check_header(data, most)
    try:
        return _finite(load(data))
    except (SafetensorError, KeyError, TypeError):  # KeyError: of a type that torch does not have
        raise ValueError(_DAMAGED) from None


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, which is not held in memory beside them; raises `OSError`, and as `parse_weights` does."""
    with storage.open_regular(file) as opened:
        _check_header(opened.read(8 + HEADER_BYTES_MAX), TENSORS_MAX)
    try:
        return _finite(load_file(file))
    except (SafetensorError, KeyError, TypeError):
        raise ValueError(_DAMAGED) from None


def _check_header(start: bytes, most: int) -> None:
    length = int.from_bytes(start[:8], "little")
    if length > HEADER_BYTES_MAX:
        raise ValueError("its header is larger than 10 MB")
    try:
        header = json.loads(start[8 : 8 + length])
    except (ValueError, RecursionError):
        raise ValueError(_DAMAGED) from None
    if not isinstance(header, dict):
        raise ValueError(_DAMAGED)
    if len(header.keys() - {"__metadata__"}) > most:
        raise ValueError(f"it has more than {most} tensors")


def _finite(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values() if tensor.is_floating_point()):
        raise ValueError("its values must be finite")
    return tensors
