"""The outline of a message in protobuf's wire format: its fields and their sizes, without what is in them.

A message in memory may be fifty times as large as on the wire, where an empty one takes two bytes. So its outline is looked at
before it is parsed: what may be large are the bytes of tensors, which stay as they are.
"""

from __future__ import annotations

from models.errors import BodyTooLarge, InvalidMessage

MAX_FIELDS = 256  # of a message itself: more than any has that can be answered


def check_outline(data: bytes, *, large: int, max_rest_bytes: int) -> None:
    """Returns where a message may be parsed.

    Args:
        large: the number of the field that may be large.
        max_rest_bytes: of all other fields.

    Raises:
        InvalidMessage: it is none, or has more fields than are of any use.
        BodyTooLarge: the other fields are too large.
    """
    at, end, fields, rest = 0, len(data), 0, 0
    while at < end:
        fields += 1
        if fields > MAX_FIELDS:
            raise InvalidMessage(f"the message has more than {MAX_FIELDS} fields")
        started = at
        tag, at = _varint(data, at)
        match tag & 7:
            case 2:  # bytes, after their length
                size, at = _varint(data, at)
                at += size
            case 0:  # a number
                _, at = _varint(data, at)
            case 1:  # 64 bits
                at += 8
            case 5:  # 32 bits
                at += 4
            case _:
                raise InvalidMessage("the bytes are not the message that this method takes")
        if tag >> 3 != large:
            rest += at - started
    if at > end:
        raise InvalidMessage("the message is cut")
    if rest > max_rest_bytes:
        raise BodyTooLarge(
            f"the message has {rest:,} bytes beside raw_input_contents, over the limit of {max_rest_bytes:,}"
        )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for shift, byte in zip(range(0, 70, 7), data[at : at + 10], strict=False):
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise InvalidMessage("the message is cut")
