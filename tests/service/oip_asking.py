"""Requests of the Open Inference Protocol over HTTP, and what their answers hold, without a client's help."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tests.server_process import Reply, ServerProcess

JSON_SIZE = "Inference-Header-Content-Length"


def elements(items: Sequence[bytes]) -> bytes:
    """A tensor of bytes."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def in_json(tensors: Mapping[str, Sequence[str]], **members: Any) -> bytes:
    """A request whose tensors of bytes are texts."""
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [len(texts)], "data": texts} for name, texts in tensors.items()
    ]
    return json.dumps({"inputs": inputs, **members}).encode()


def in_bytes(tensors: Mapping[str, Sequence[bytes]], **members: Any) -> tuple[bytes, dict[str, str]]:
    """A request whose tensors of bytes come after the JSON, and its headers."""
    raws = [elements(items) for items in tensors.values()]
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [len(items)], "parameters": {"binary_data_size": len(raw)}}
        for (name, items), raw in zip(tensors.items(), raws, strict=True)
    ]
    head = json.dumps({"inputs": inputs, **members}).encode()
    return b"".join([head, *raws]), {JSON_SIZE: str(len(head))}


def infer(server: ServerProcess, model: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
    return server.request("POST", f"/v2/models/{model}/infer", body, headers)


def tensors(reply: Reply) -> dict[str, Any]:
    """The outputs of an answer by name, each nested as its shape is."""
    assert reply.status == 200, reply.body
    size = reply.headers.get(JSON_SIZE.lower())
    end = len(reply.body) if size is None else int(size)
    document, rest, found = json.loads(reply.body[:end]), reply.body[end:], {}
    for tensor in document["outputs"]:
        if "data" in tensor:
            flat = tensor["data"]
        else:
            length = tensor["parameters"]["binary_data_size"]
            raw, rest = rest[:length], rest[length:]
            flat = _values(tensor["datatype"], raw)
        found[tensor["name"]] = _nested(flat, tensor["shape"])
    assert rest == b""
    return found


def _values(datatype: str, raw: bytes) -> list[Any]:
    if datatype == "FP32":
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    if datatype == "BOOL":
        return [byte == 1 for byte in raw]
    found = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        found.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return found


def _nested(flat: Sequence[Any], shape: Sequence[int]) -> Any:
    if len(shape) == 1:
        assert len(flat) == shape[0]
        return list(flat)
    size = len(flat) // shape[0]
    return [_nested(flat[start : start + size], shape[1:]) for start in range(0, len(flat), size)]
