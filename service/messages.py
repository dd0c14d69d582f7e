"""What the API process and an engine worker say to each other, as length-framed bytes over a local socket.

A frame is ``<u32 header length> <u32 payload length> <header> <payload>``, little-endian. The header is a JSON object with
``kind`` and the fields of one of the classes below; the payload is raw bytes (images, texts, the finished answer), so that
nothing large is ever escaped or parsed. No pickle.

    API process   --Load, Unload, Predict, Cancel-->                 engine worker
    API process   <--Hello, Loaded, LoadFailed, Answer, Failure--    engine worker
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import orjson

PREFIX = struct.Struct("<II")


@dataclass(frozen=True, kw_only=True)
class Hello:
    """The first message of a worker."""

    kind: ClassVar[str] = "hello"
    worker: int
    pid: int
    device: str


@dataclass(frozen=True, kw_only=True)
class Load:
    """Load a version beside the others, warm it up and check its golden outputs."""

    kind: ClassVar[str] = "load"
    name: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Unload:
    """Forget a version; requests that hold it are still answered."""

    kind: ClassVar[str] = "unload"
    name: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Loaded:
    kind: ClassVar[str] = "loaded"
    name: str
    number: int


@dataclass(frozen=True, kw_only=True)
class LoadFailed:
    kind: ClassVar[str] = "load_failed"
    name: str
    number: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Predict:
    """One request.

    Attributes:
        sizes: the payload is the request's instances, one after the other, of these many bytes.
        top_k: how many scores an answer lists; all of them without.
        truncate: cut texts that are too long instead of refusing them.
    """

    kind: ClassVar[str] = "predict"
    id: int
    name: str
    number: int
    sizes: Sequence[int]
    top_k: int | None = None
    truncate: bool = False


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Nobody waits for this request any more."""

    kind: ClassVar[str] = "cancel"
    id: int


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Where a request's time went in the worker, in seconds, each that of its slowest row.

    Attributes:
        decode: decoding, resizing, tokenising.
        queue: ready, but waiting for the device.
        compute: the batch that it was part of.
    """

    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The payload is the JSON list of predictions.

    Attributes:
        batches: the rows of every batch computed since the last message, by backbone digest.
        waiting: rows that wait for the device now.
    """

    kind: ClassVar[str] = "answer"
    id: int
    timings: Timings
    batches: Sequence[tuple[str, int]] = ()
    waiting: int = 0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A request that cannot be answered; ``code`` and ``message`` are those of `models.errors`."""

    kind: ClassVar[str] = "failure"
    id: int
    code: str
    message: str
    timings: Timings = field(default_factory=Timings)
    batches: Sequence[tuple[str, int]] = ()
    waiting: int = 0


Message: TypeAlias = Hello | Load | Unload | Loaded | LoadFailed | Predict | Cancel | Answer | Failure

_KINDS: dict[str, type[Message]] = {
    cls.kind: cls for cls in (Hello, Load, Unload, Loaded, LoadFailed, Predict, Cancel, Answer, Failure)
}


def pack(message: Message, payload: bytes = b"") -> bytes:
    """One frame."""
    header = b'{"kind":"%s",%s' % (message.kind.encode(), orjson.dumps(message)[1:])
    return b"".join((PREFIX.pack(len(header), len(payload)), header, payload))


def unpack(header: bytes) -> Message:
    """The message of a frame's header."""
    fields = orjson.loads(header)
    cls = _KINDS[fields.pop("kind")]
    if "timings" in fields:
        fields["timings"] = Timings(**fields["timings"])
    return cls(**fields)
