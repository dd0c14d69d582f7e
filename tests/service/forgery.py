"""Versions that somebody changed: by accident, so that sums do not fit, or by will, so that they do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load, save

from models.backbone import backbone_digest

Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A version that is not yet where a server looks for it, and the backbone that it stands on."""

    directory: Path
    backbone: Path

    @property
    def manifest(self) -> Document:
        document: Document = json.loads((self.directory / "manifest.json").read_bytes())
        return document

    def declare(self, **fields: object) -> None:
        """Changes what the manifest says; parts of it member by member."""
        manifest = self.manifest
        for name, value in fields.items():
            manifest[name] = {**manifest[name], **value} if isinstance(value, Mapping) else value
        (self.directory / "manifest.json").write_text(json.dumps(manifest))

    def put(self, name: str, data: bytes) -> None:
        """Writes a file, and its sum into the manifest."""
        (self.directory / name).parent.mkdir(exist_ok=True)
        (self.directory / name).write_bytes(data)
        self.declare(files={name: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}})

    def put_head(self, **tensors: torch.Tensor) -> None:
        self.put("head.safetensors", save({**load((self.directory / "head.safetensors").read_bytes()), **tensors}))

    def put_backbone(self, name: str, data: bytes) -> None:
        """Writes a file of the backbone, which so becomes another one."""
        self.backbone.joinpath(name).write_bytes(data)
        digest = backbone_digest({path.name: path.read_bytes() for path in self.backbone.iterdir()})
        self.declare(backbone={"digest": digest})

    def change_backbone(self, **fields: object) -> None:
        config = json.loads(self.backbone.joinpath("config.json").read_bytes())
        self.put_backbone("config.json", json.dumps({**config, **fields}).encode())

    def put_weights(self, **tensors: torch.Tensor) -> None:
        state = load(self.backbone.joinpath("model.safetensors").read_bytes())
        self.put_backbone("model.safetensors", save({**state, **tensors}))


# What happens to a file


def flip_a_bit(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def remove(file: Path) -> None:
    file.unlink()


def link(file: Path) -> None:
    """To a file outside of the repository with the same bytes."""
    elsewhere = Path(os.environ["TMPDIR"]) / f"elsewhere-{file.name}"
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere)


def make_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def make_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    each.__name__: each for each in (flip_a_bit, truncate, remove, link, make_a_folder, make_a_pipe)
}


# Safetensors by hand


def tensors_file(header: Mapping[str, object] | bytes, values: bytes = b"", length: int | None = None) -> bytes:
    """A file of the format, whatever its header says of itself."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data) if length is None else length) + data + values


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> Mapping[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


WEIGHTS = 4 * 4 * 16  # bytes
BIAS = 4 * 4
TORN = {"weight": entry([4, 16], 0, WEIGHTS), "bias": entry([4], WEIGHTS, WEIGHTS + BIAS)}
VALUES = bytes(WEIGHTS + BIAS)

TENSOR_FILES: Mapping[str, bytes] = {
    "a pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "nothing": b"",
    "seven bytes": bytes(7),
    "a header of 11 MB": tensors_file({"__metadata__": {"pad": "x" * (11 << 20)}, **TORN}, VALUES),
    "a header of 8 EiB": tensors_file(TORN, VALUES, length=1 << 63),
    "a header that is longer than the file": tensors_file(TORN, VALUES, length=1 << 20),
    "a header that is no JSON": tensors_file(b"{'weight'", VALUES),
    "a header that is no object": tensors_file(b"[1, 2]", VALUES),
    "a header that is nested deeply": tensors_file(b"[" * 200_000, VALUES),
    "100,000 tensors": tensors_file({f"t{i}": entry([0], 0, 0) for i in range(100_000)}),
    "offsets beyond the file": tensors_file({**TORN, "bias": entry([1 << 40], WEIGHTS, WEIGHTS + (4 << 40))}, VALUES),
    "offsets that overlap": tensors_file({**TORN, "bias": entry([4], 0, BIAS)}, VALUES[:WEIGHTS]),
    "offsets that run backwards": tensors_file({**TORN, "bias": entry([4], WEIGHTS + BIAS, WEIGHTS)}, VALUES),
    "negative offsets": tensors_file({**TORN, "bias": entry([4], -16, 0)}, VALUES),
    "a shape that overflows": tensors_file({**TORN, "bias": entry([1 << 62, 1 << 62], WEIGHTS, WEIGHTS + 16)}, VALUES),
    "a shape that does not fit its offsets": tensors_file({**TORN, "bias": entry([5], WEIGHTS, WEIGHTS + 16)}, VALUES),
    "an unknown type": tensors_file({**TORN, "bias": entry([4], WEIGHTS, WEIGHTS + 16, "X\n/etc/passwd")}, VALUES),
    "bytes that nobody owns": tensors_file(TORN, VALUES + bytes(8)),
}
