"""What a model is asked about, as JSON in requests that are well under the server's limits."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from models.errors import InvalidParameter

# What goes into one request. An item that is larger goes alone.
CHUNK_ITEMS = 16
EMBEDDED_ITEMS = 256  # the server takes lists apart itself, and puts texts of like length together
CHUNK_BYTES = 1 << 20

Item: TypeAlias = str | tuple[str, str] | bytes | Path
"""A text, a pair of them, or an image file: its bytes, or where it is."""

_SIGNATURES = ((b"\x89PNG", "png"), (b"RIFF", "webp"), (b"GIF8", "gif"), (b"", "jpeg"))


def check_items(items: Sequence[object]) -> None:
    """Refuses what has no items in it.

    Raises:
        InvalidParameter: with the cure.
    """
    if isinstance(items, (str, bytes, Path)):
        raise InvalidParameter("items come in a list, even a single one: [item]")
    if not items:
        raise InvalidParameter("there is nothing to predict; name image files or texts")


def chunks(instances: Iterable[object], most: int = CHUNK_ITEMS) -> Iterator[bytes]:
    """Lists in JSON, each for one request; reads no more than it needs for the next.

    Args:
        instances: as JSON has them.
        most: in a list.
    """
    chunk: list[bytes] = []
    size = 0
    for instance in instances:
        encoded = json.dumps(instance).encode()
        if chunk and (len(chunk) == most or size + len(encoded) > CHUNK_BYTES):
            yield _listed(chunk)
            chunk, size = [], 0
        chunk.append(encoded)
        size += len(encoded)
    if chunk:
        yield _listed(chunk)


def instance(item: Item) -> object:
    """As a prediction is asked for."""
    if isinstance(item, str):
        return item
    if isinstance(item, tuple):
        return {"text": item[0], "text_pair": item[1]}
    return {"b64": base64.b64encode(_data(item)).decode()}


def embedding_input(item: str | bytes | Path) -> str:
    """As OpenAI's clients send it: a text, or an image in a ``data:`` URL."""
    if isinstance(item, str):
        return item
    data = _data(item)
    kind = next(kind for signature, kind in _SIGNATURES if data.startswith(signature))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _listed(chunk: Sequence[bytes]) -> bytes:
    return b"[%s]" % b",".join(chunk)


def _data(item: bytes | Path) -> bytes:
    if isinstance(item, bytes):
        return item
    try:
        return item.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"{item} cannot be read: {error.strerror or error}") from error
