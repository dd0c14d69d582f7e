"""The answers of a list's parts as rows in the order of the list."""

from __future__ import annotations

from collections.abc import Sequence

from service.api.inference import Part
from service.messages import unpack_elements


def rows_of(parts: Sequence[Part], count: int, *, as_json: bool) -> list[bytes]:
    """Each row's part of what was asked for, in the order of the request.

    Args:
        parts: that answer a wish for embeddings, or for one tensor of numbers.
        count: of all rows.
        as_json: each is an embedding as a list of numbers; in FP32 without.
    """
    rows = [b""] * count
    for part in parts:
        payload = part.reply.payload
        if as_json:
            found = unpack_elements(payload)
        else:
            size = len(payload) // len(part.places)
            found = [payload[start : start + size] for start in range(0, len(payload), size)]
        for place, row in zip(part.places, found, strict=True):
            rows[place] = row
    return rows
