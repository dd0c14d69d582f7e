"""The outline of a request in protobuf's wire format: its fields and their sizes, without most of what is in them.

All other calls wait while a message is parsed, and in memory it may be fifty times as large as on the wire, where an empty one
takes two bytes. So its outline is looked at before: what may be large are the bytes of tensors, which stay as they are, and what
may be many are the values of tensors, up to as many as in JSON.
"""

from __future__ import annotations

from collections.abc import Iterator

from tritonclient.grpc.service_pb2 import InferTensorContents, ModelInferRequest

from models.errors import BodyTooLarge, InvalidMessage, InvalidTensor
from service.api.oip.infer_json import MAX_VALUES
from service.api.oip.tensor import MAX_BYTES_ELEMENTS

MAX_FIELDS = 256  # of a message itself: more than any has that can be answered
MAX_SMALL_BYTES = 64 << 10  # names, shapes, parameters: whatever is no value of a tensor

_REQUEST = ModelInferRequest.DESCRIPTOR.fields_by_name
_RAW, _INPUT = _REQUEST["raw_input_contents"].number, _REQUEST["inputs"].number
_TARGET = _REQUEST["model_name"].number, _REQUEST["model_version"].number
_CONTENTS = ModelInferRequest.InferInputTensor.DESCRIPTOR.fields_by_name["contents"].number
_KINDS = InferTensorContents.DESCRIPTOR.fields_by_name
_ELEMENT = _KINDS["bytes_contents"].number
_SIZES = {_KINDS["fp32_contents"].number: 4, _KINDS["fp64_contents"].number: 8}
_VARINTS = frozenset(field.number for field in _KINDS.values()) - {_ELEMENT, *_SIZES}
_DELIMITED = 2  # bytes, after their length
_CONTINUED = bytes(range(0x80, 0x100))  # all bytes of a number but its last one
_MAX_VARINT = 10  # bytes


def check_outline(data: bytes, *, max_rest_bytes: int) -> bytes:
    """Returns where a request may be parsed.

    Args:
        data: a ``ModelInferRequest``.
        max_rest_bytes: of all that is not in ``raw_input_contents``.

    Returns:
        A request of nothing but the model's name and version.

    Raises:
        InvalidMessage: it is none, or has more fields than are of any use.
        InvalidTensor: there are more elements of bytes than are taken.
        BodyTooLarge: there is more than that, or are more numbers, or more of what is neither.
    """
    outline, target = _Outline(data), b""
    for count, (number, kind, started, at, end) in enumerate(_fields(data, 0, len(data)), start=1):
        if count > MAX_FIELDS:
            raise InvalidMessage(f"the message has more than {MAX_FIELDS} fields")
        if number == _INPUT and kind == _DELIMITED:
            outline.add_small(at - started)
            outline.add_input(at, end)
        elif number != _RAW or kind != _DELIMITED:
            outline.add_small(end - started)
            if number in _TARGET:
                target += data[started:end]
    if outline.rest > max_rest_bytes:
        raise BodyTooLarge(
            f"the message has {outline.rest:,} bytes beside raw_input_contents, over the limit of {max_rest_bytes:,}"
        )
    return target


class _Outline:
    """What was counted of a message.

    Args:
        data: it.

    Attributes:
        rest: bytes of what is not in ``raw_input_contents``.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._small = 0
        self._values = 0
        self._elements = 0
        self.rest = 0

    def add_small(self, size: int) -> None:
        """Bytes of what is no value."""
        self._small += size
        self.rest += size
        if self._small > MAX_SMALL_BYTES:
            raise BodyTooLarge(f"the message has more than {MAX_SMALL_BYTES:,} bytes beside the values of its tensors")

    def add_input(self, at: int, end: int) -> None:
        """A tensor between two places."""
        for number, kind, started, inner, after in _fields(self._data, at, end):
            if number == _CONTENTS and kind == _DELIMITED:
                self.add_small(inner - started)
                self._add_contents(inner, after)
            else:
                self.add_small(after - started)

    def _add_contents(self, at: int, end: int) -> None:
        for number, kind, started, inner, after in _fields(self._data, at, end):
            if number == _ELEMENT and kind == _DELIMITED:
                self._elements += 1
                if self._elements > MAX_BYTES_ELEMENTS:
                    raise InvalidTensor(f"there are more than {MAX_BYTES_ELEMENTS:,} elements; send fewer rows")
                self.rest += after - started
            elif kind == _DELIMITED and (number in _SIZES or number in _VARINTS):
                self.add_small(inner - started)
                self._add_values(number, inner, after)
            else:  # also numbers that are not packed, as no client sends them
                self.add_small(after - started)

    def _add_values(self, number: int, at: int, end: int) -> None:
        self.rest += end - at
        if number in _SIZES:
            self._values += (end - at) // _SIZES[number]
        elif end - at > MAX_VALUES * _MAX_VARINT:
            self._values = MAX_VALUES + 1
        else:
            self._values += len(self._data[at:end].translate(None, _CONTINUED))
        if self._values > MAX_VALUES:
            raise BodyTooLarge(f"the contents have more than {MAX_VALUES:,} numbers; send raw_input_contents")


def _fields(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
    """The fields of a message between two places: number, kind, and where it, what is in it, and what follows it starts.

    Raises:
        InvalidMessage: this is no message.
    """
    while at < stop:
        started, tag = at, data[at]
        if tag < 0x80:  # as nearly all are: there may be many
            at += 1
        else:
            tag, at = _varint(data, at)
        kind = tag & 7
        inner = at
        if kind == _DELIMITED:
            if at < stop and data[at] < 0x80:
                size, inner = data[at], at + 1
            else:
                size, inner = _varint(data, at)
            at = inner + size
        elif kind == 0:  # a number
            _, at = _varint(data, at)
        elif kind == 1:  # 64 bits
            at += 8
        elif kind == 5:  # 32 bits
            at += 4
        else:
            raise InvalidMessage("the bytes are not the message that this method takes")
        if at > stop:
            raise InvalidMessage("the message is cut")
        yield tag >> 3, kind, started, inner, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for shift, byte in zip(range(0, 70, 7), data[at : at + _MAX_VARINT], strict=False):
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise InvalidMessage("the message is cut")
