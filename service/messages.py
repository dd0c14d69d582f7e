"""What the API process and an engine worker say to each other, as length-framed bytes over a local socket.

A frame is ``<u32 header length> <u32 payload length> <header> <payload>``, little-endian. The header is a JSON object with
``kind`` and the fields of one of the classes below; the payload is raw bytes (images, texts, the finished answer), so that
nothing large is ever escaped or parsed. No pickle.

    API process   --Load, Unload, Predict, Cancel-->                         engine worker
    API process   <--Hello, Loaded, LoadFailed, Answer, Failure, Report--    engine worker
    API process   <--Died--                                                  parent process
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


@dataclass(kw_only=True, slots=True)  # not frozen: one is made a request, at a third of the time
class Predict:
    """One request.

    Attributes:
        sizes: the payload is the request's instances, one after the other, of these many bytes.
        deadline: by the monotonic clock, which all processes of a machine share, in seconds; a row is not computed later.
        top_k: how many scores an answer lists; all of them without.
        truncate: cut texts that are too long instead of refusing them.
        isolated: its rows may have ended a worker: each is computed alone.
    """

    kind: ClassVar[str] = "predict"
    id: int
    name: str
    number: int
    sizes: Sequence[int]
    deadline: float
    top_k: int | None = None
    truncate: bool = False
    isolated: bool = False


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Nobody waits for this request any more."""

    kind: ClassVar[str] = "cancel"
    id: int


@dataclass(kw_only=True, slots=True)  # not frozen: one is made a request, at a third of the time
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


@dataclass(kw_only=True, slots=True)  # not frozen: one is made a request, at a third of the time
class Answer:
    """The payload is the JSON list of predictions."""

    kind: ClassVar[str] = "answer"
    id: int
    timings: Timings


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A request that cannot be answered; ``code`` and ``message`` are those of `models.errors`."""

    kind: ClassVar[str] = "failure"
    id: int
    code: str
    message: str
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch that was computed.

    Attributes:
        backbone: its digest.
    """

    backbone: str
    rows: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a worker is; sent with the answers of each batch, and at least once a second: silence is a hung worker.

    Attributes:
        batches: those computed since the last report.
        dropped: rows that nobody waited for any more, and that were not computed, since the last report.
        waiting: rows that wait for the device now.
        busy_seconds: for how long it has had the row or the batch that takes longest now.
    """

    kind: ClassVar[str] = "report"
    batches: Sequence[Batch] = ()
    dropped: int = 0
    waiting: int = 0
    busy_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Died:
    """A worker ended; said by the parent process, on a connection of its own.

    Attributes:
        exit_code: negative, the signal that ended it.
        deaths: how often this worker has died in a row.
        pause_seconds: until it starts again.
    """

    kind: ClassVar[str] = "died"
    worker: int
    exit_code: int
    deaths: int
    pause_seconds: float


Message: TypeAlias = Hello | Load | Unload | Loaded | LoadFailed | Predict | Cancel | Answer | Failure | Report | Died

_KINDS: dict[str, type[Message]] = {
    cls.kind: cls for cls in (Hello, Load, Unload, Loaded, LoadFailed, Predict, Cancel, Answer, Failure, Report, Died)
}

_STARTS = {cls: b'{"kind":"%s",' % kind.encode() for kind, cls in _KINDS.items()}


def pack(message: Message, payload_size: int = 0) -> bytes:
    """A frame up to its payload, which is to be sent right after it."""
    header = _STARTS[type(message)] + orjson.dumps(message)[1:]
    return PREFIX.pack(len(header), payload_size) + header


def unpack(header: bytes | memoryview) -> Message:
    """The message of a frame's header."""
    fields = orjson.loads(header)
    cls = _KINDS[fields.pop("kind")]
    if "timings" in fields:
        fields["timings"] = Timings(**fields["timings"])
    if "batches" in fields:
        fields["batches"] = [Batch(**batch) for batch in fields["batches"]]
    return cls(**fields)


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = PREFIX.size

    def feed(self, data: bytes | memoryview) -> Sequence[tuple[Message, bytes]]:
        """Takes what arrived.

        Returns:
            Every message that is complete now, with its payload.
        """
        self._rest += data
        if len(self._rest) < self._needed:  # a large frame arrives in many pieces
            return ()
        messages = []
        start, self._needed = 0, PREFIX.size
        with memoryview(self._rest) as view:
            while len(view) - start >= PREFIX.size:
                header_size, payload_size = PREFIX.unpack_from(view, start)
                header_start = start + PREFIX.size
                payload_start = header_start + header_size
                end = payload_start + payload_size
                if end > len(view):
                    self._needed = end - start
                    break
                messages.append((unpack(view[header_start:payload_start]), bytes(view[payload_start:end])))
                start = end
        del self._rest[:start]
        return messages
