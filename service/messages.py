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
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

PREFIX = struct.Struct("<II")
_SIZE = struct.Struct("<I")

Form: TypeAlias = Literal["item", "text", "tokens", "UINT8", "FP32"]
Item: TypeAlias = bytes | memoryview  # an instance; a part of a body is not copied


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="hello"):
    """The first message of a worker."""

    worker: int
    pid: int
    device: str


class Load(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="load"):
    """Load a version beside the others, warm it up and check its golden outputs."""

    name: str
    number: int


class Unload(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="unload"):
    """Forget a version; requests that hold it are still answered."""

    name: str
    number: int


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker computes a version.

    Attributes:
        engine: its identity: library, version, device, precision.
        reason: why it is that one, and why it is no faster one.
    """

    engine: str
    precision: str
    reason: str


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="loaded"):
    name: str
    number: int
    serving: Serving


class LoadFailed(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="load_failed"):
    name: str
    number: int
    reason: str


class Embedding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the embedding of a row is wanted: what its backbone makes of it, without the head.

    Attributes:
        dimensions: so many, the first ones; all of them without.
        normalize: scaled to length 1, after the others were cut off.
        as_json: each as a list of numbers, packed by `pack_element`; as FP32 without.
    """

    dimensions: int | None = None
    normalize: bool = True
    as_json: bool = False


class Wish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request's instances are, and what is asked for of them.

    Attributes:
        form: of an instance: an item (an image file, a text, a pair of them, as the version reads it); for an embedding also
            one text, whatever the version reads, or the tokens of one as INT32; or an image's pixels in this datatype.
        outputs: names of tensors (`models.signature`) that are asked for; a list of predictions in JSON without.
        embedding: asked for instead of all else.
        top_k: how many scores a prediction lists; all of them without.
        truncate: cut texts that are too long instead of refusing them.
    """

    form: Form = "item"
    outputs: Sequence[str] = ()
    embedding: Embedding | None = None
    top_k: int | None = None
    truncate: bool = False


PREDICTIONS = Wish()


class Predict(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="predict"):
    """One request.

    Attributes:
        sizes: the payload is the request's instances, one after the other, of these many bytes; see `pack_pair`.
        deadline: by the monotonic clock, which all processes of a machine share, in seconds; a row is not computed later.
        isolated: its rows may have ended a worker: each is computed alone.
        priority: 1 is urgent; 2, and 0, are the default; from 3 on it is in the background.
        list_id: the same number for all parts of a list, which get the turns of one request; 0 where it is no part.
        log_fields: what lines in the log say of whose request it is.
    """

    id: int
    name: str
    number: int
    sizes: Sequence[int]
    deadline: float
    wish: Wish = PREDICTIONS
    isolated: bool = False
    priority: int = 0
    list_id: int = 0
    log_fields: Mapping[str, str] = {}


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="cancel"):
    """Nobody waits for this request any more."""

    id: int


class Timings(msgspec.Struct, kw_only=True):
    """Where a request's time went in the worker, in seconds, each that of its slowest row.

    Attributes:
        decode: decoding, resizing, tokenising.
        queue: ready, but waiting for the device.
        compute: the batch that it was part of.
    """

    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="answer"):
    """The payload is the JSON list of predictions; or the tensors that were asked for, one after the other; or the embeddings.

    Attributes:
        sizes: bytes of each tensor.
        truncated: the rows of which only a part was read, of a request for tensors or embeddings.
        tokens: that were read of all texts.
    """

    id: int
    timings: Timings
    sizes: Sequence[int] = ()
    truncated: Sequence[int] = ()
    tokens: int = 0


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="failure"):
    """A request that cannot be answered; ``code`` and ``message`` are those of `models.errors`.

    Attributes:
        row: of the request that it is about; None where it is about all of them.
    """

    id: int
    code: str
    message: str
    row: int | None = None
    timings: Timings = msgspec.field(default_factory=Timings)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that was computed.

    Attributes:
        backbone: its digest.
        versions: whose rows it had: name, number and how many of them.
    """

    backbone: str
    rows: int
    seconds: float
    versions: Sequence[tuple[str, int, int]] = ()


class RemoteEngine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server that computes for a worker, as the worker sees it.

    Attributes:
        url: as it was named at the start.
        up: it answered when it was asked last.
        requests, failures, retries: since the last report: what it was asked, how much of that it did not answer, and how
            much of that had been asked of another one, or of itself, before.
    """

    url: str
    up: bool
    requests: int = 0
    failures: int = 0
    retries: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="report"):
    """How a worker is; sent with the answers of each batch, and at least once a second: silence is a hung worker.

    Attributes:
        batches: those computed since the last report.
        dropped: rows that nobody waited for any more, and that were not computed, since the last report.
        waiting: rows that wait for the device now.
        busy_seconds: for how long it has had the row or the batch that takes longest now.
        fleet: the servers that compute for it; none where it computes itself.
    """

    batches: Sequence[Batch] = ()
    dropped: int = 0
    waiting: int = 0
    busy_seconds: float = 0.0
    fleet: Sequence[RemoteEngine] = ()


class Died(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="died"):
    """A worker ended; said by the parent process, on a connection of its own.

    Attributes:
        exit_code: negative, the signal that ended it.
        deaths: how often this worker has died in a row.
        pause_seconds: until it starts again.
    """

    worker: int
    exit_code: int
    deaths: int
    pause_seconds: float


Message: TypeAlias = Hello | Load | Unload | Loaded | LoadFailed | Predict | Cancel | Answer | Failure | Report | Died

_encode = msgspec.json.Encoder().encode
_decode: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def pack(message: Message, payload_size: int = 0) -> bytes:
    """A frame up to its payload, which is to be sent right after it."""
    header = _encode(message)
    return PREFIX.pack(len(header), payload_size) + header


def unpack(header: bytes | memoryview) -> Message:
    """The message of a frame's header.

    Raises:
        msgspec.ValidationError: it is none.
    """
    return _decode.decode(header)


def pack_pair(first: Item, second: Item) -> bytes:
    """An instance that is a pair of texts: ``<u32 length of the first> <first> <second>``."""
    return pack_element(first) + second


def unpack_pair(instance: bytes) -> tuple[bytes, bytes]:
    """The two texts of an instance that `pack_pair` made."""
    end = _SIZE.size + _SIZE.unpack_from(instance)[0]
    return instance[_SIZE.size : end], instance[end:]


def pack_element(data: Item) -> bytes:
    """An element of a tensor of bytes, as the Open Inference Protocol has it: ``<u32 length> <data>``."""
    return _SIZE.pack(len(data)) + data


def unpack_elements(data: bytes) -> list[bytes]:
    """The elements, one after the other, that `pack_element` made."""
    found, start = [], 0
    while start < len(data):
        end = start + _SIZE.size + _SIZE.unpack_from(data, start)[0]
        found.append(data[start + _SIZE.size : end])
        start = end
    return found


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
