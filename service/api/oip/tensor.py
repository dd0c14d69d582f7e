"""Tensors on the wire: little-endian, in C order; of bytes, each element after its length.

The names of datatypes and their layout are those of the Open Inference Protocol V2, extension "binary tensor data".
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from models.errors import InvalidTensor, InvalidValue, NonFinite, ShapeOverflow, shown
from service.messages import Item, pack_element

SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
    "BYTES": 0,
}
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 31  # of a shape: more has no request of any size that is taken
MAX_BYTES_ELEMENTS = (
    1 << 16
)  # each of which is an object here: millions take seconds, and are more rows than anybody takes
_LENGTH = struct.Struct("<I")
_LARGEST_FP32 = (2.0 - 2.0**-23) * 2.0**127


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """An input of a request.

    Attributes:
        elements: of a tensor of bytes.
        is_text: whether these are texts, as they are in JSON.
        raw: of any other one.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: Sequence[Item] = ()
    is_text: bool = False
    raw: Item = b""


def check_shape(name: str, shape: Any) -> tuple[int, ...]:
    """A shape that was sent.

    Raises:
        InvalidTensor: it is none, or none of these tensors.
        ShapeOverflow: nothing has so many elements.
    """
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise InvalidTensor(f"the shape of '{shown(name)}' must be a list of at most {MAX_DIMENSIONS} whole numbers")
    for size in shape:
        if type(size) is not int or size < 1:  # a bool is an int, too
            raise InvalidTensor(f"the shape of '{shown(name)}' must be of whole numbers from 1")
    if math.prod(shape) > MAX_ELEMENTS:
        raise ShapeOverflow(f"the shape of '{shown(name)}' has more than {MAX_ELEMENTS:,} elements")
    return tuple(shape)


def check_datatype(name: str, datatype: Any) -> str:
    """A datatype that was sent; raises `InvalidTensor` where there is none of that name."""
    if not isinstance(datatype, str) or datatype not in SIZES:
        raise InvalidTensor(f"the datatype of '{shown(name)}' must be one of {', '.join(SIZES)}")
    return datatype


def from_raw(name: str, datatype: str, shape: tuple[int, ...], raw: Item) -> Tensor:
    """A tensor of its bytes.

    Raises:
        InvalidTensor: there are more or less of them than its shape says.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return Tensor(name=name, datatype=datatype, shape=shape, elements=_unpack_elements(name, raw, count))
    if len(raw) != count * SIZES[datatype]:
        raise InvalidTensor(
            f"'{shown(name)}' has {len(raw):,} bytes; its shape and datatype stand for {count * SIZES[datatype]:,}"
        )
    return Tensor(name=name, datatype=datatype, shape=shape, raw=raw)


def check_bytes_count(name: str, count: int) -> None:
    """Raises: InvalidTensor: there are more elements of bytes than are taken."""
    if count > MAX_BYTES_ELEMENTS:
        raise InvalidTensor(f"'{shown(name)}' has more than {MAX_BYTES_ELEMENTS:,} elements; send fewer rows")


def _unpack_elements(name: str, raw: Item, count: int) -> Sequence[Item]:
    check_bytes_count(name, count)
    elements: list[Item] = []
    start, end = 0, len(raw)
    while start < end and len(elements) < count:
        first = start + _LENGTH.size
        if first > end:
            break
        start = first + _LENGTH.unpack_from(raw, start)[0]
        if start > end:
            break
        elements.append(raw[first:start])
    if len(elements) != count or start != end:
        raise InvalidTensor(
            f"the bytes of '{shown(name)}' are not {count:,} elements, each of them after its length as 4 bytes, little-endian"
        )
    return elements


def pack_elements(elements: Sequence[bytes]) -> bytes:
    """The bytes of a tensor of bytes."""
    return b"".join(map(pack_element, elements))


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any, pointer: str) -> Tensor:
    """A tensor of a JSON list, flat or nested as its shape is.

    Args:
        pointer: to the list in the request.

    Raises:
        InvalidTensor: there are more or less values than its shape says, or its datatype has no values in JSON.
        InvalidValue: a value is of another type, or out of its range.
        NonFinite: a number does not fit its datatype.
    """
    if not isinstance(data, list):
        raise InvalidValue(f"{pointer}: the data of '{shown(name)}' must be a list")
    values, is_nested = _flat(name, data, shape)
    if len(values) != math.prod(shape):
        raise InvalidTensor(f"'{shown(name)}' has {len(values):,} elements; its shape stands for {math.prod(shape):,}")
    where = pointer, shape if is_nested else (len(values),)
    match datatype:
        case "BYTES":
            check_bytes_count(name, len(values))
            _check_types(values, {str}, *where, "a string")
            texts = [value.encode() for value in values]
            return Tensor(name=name, datatype=datatype, shape=shape, elements=texts, is_text=True)
        case "FP32":
            _check_types(values, {float, int}, *where, "a number")
            if max(values) > _LARGEST_FP32 or min(values) < -_LARGEST_FP32:
                raise NonFinite(f"{pointer}: a number is too large for FP32")
            return Tensor(name=name, datatype=datatype, shape=shape, raw=array("f", values).tobytes())
        case "UINT8":
            _check_types(values, {int}, *where, "a whole number to 255")
            if min(values) < 0 or max(values) > 255:
                wrong = next(index for index, value in enumerate(values) if not 0 <= value < 256)
                raise InvalidValue(f"{_pointer(wrong, *where)}: this must be a whole number to 255")
            return Tensor(name=name, datatype=datatype, shape=shape, raw=bytes(values))
    raise InvalidTensor(f"'{shown(name)}' cannot be {datatype} in JSON; send its bytes")


def _flat(name: str, data: list[Any], shape: tuple[int, ...]) -> tuple[list[Any], bool]:
    """The elements, and whether each level of lists is an axis of the shape; they may be flat already."""
    if not data or not isinstance(data[0], list):
        return data, False
    parts: list[Any] = [data]
    for size in shape:
        if set(map(type, parts)) != {list} or set(map(len, parts)) != {size}:
            raise InvalidTensor(f"the lists in the data of '{shown(name)}' are not as its shape says; send a flat list")
        parts = list(chain.from_iterable(parts))
    return parts, True


def _check_types(values: Sequence[Any], types: set[type], pointer: str, shape: tuple[int, ...], what: str) -> None:
    if not types.issuperset(map(type, values)):  # a bool is an int, too
        wrong = next(index for index, value in enumerate(values) if type(value) not in types)
        raise InvalidValue(f"{_pointer(wrong, pointer, shape)}: this must be {what}")


def _pointer(index: int, pointer: str, shape: tuple[int, ...]) -> str:
    """To the element of lists that are nested as a shape is."""
    places: list[int] = []
    for size in reversed(shape):
        index, place = divmod(index, size)
        places.insert(0, place)
    return "/".join([pointer, *map(str, places)])


def to_json(datatype: str, raw: bytes) -> list[Any]:
    """The elements of a tensor as they are in JSON, flat; those of bytes are texts."""
    match datatype:
        case "BYTES":
            return [element.decode() for element in iterate_elements(raw)]
        case "BOOL":
            return [byte != 0 for byte in raw]
        case _:
            return array("f", raw).tolist()


def iterate_elements(raw: bytes) -> Iterator[bytes]:
    """The elements of a tensor of bytes that is known to be whole."""
    start = 0
    while start < len(raw):
        first = start + _LENGTH.size
        start = first + _LENGTH.unpack_from(raw, start)[0]
        yield raw[first:start]
