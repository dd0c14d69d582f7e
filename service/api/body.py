"""A prediction request's body: bytes with limits, and the instances in them."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from itertools import takewhile
from typing import Any, NoReturn

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from models.backbone import Modality
from models.errors import (
    BodyTooLarge,
    EmptyBody,
    InputError,
    InvalidBase64,
    InvalidInstances,
    InvalidJson,
    InvalidUnicode,
    InvalidUtf8,
    JsonTooDeep,
    NonFinite,
    TooManyInstances,
    UnsupportedMediaType,
)
from service.api.admission import Ticket
from service.messages import pack_pair

MAX_JSON_DEPTH = 100
MAX_JSON_CONTAINERS = 500_000
_EXPLAINED_BYTES = 2 << 20  # a larger body that is no JSON is refused without a second, slower look
_TOO_DEEP = f"the JSON is nested more than {MAX_JSON_DEPTH} levels deep"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SEND_PAIRS = 'this model reads pairs of texts; send {"text": "...", "text_pair": "..."} or ["...", "..."]'
HEADERS = ("content-encoding", "content-length", "content-type")  # that say what the body is

_BOM = b"\xef\xbb\xbf"
_MAX_LINE = 998  # characters of a line in a message (RFC 5322, 2.1.1)
_LINE_END = re.compile(rb"[ \t]*+(?=\r\n)")
_MAX_PART_HEADERS = 32 << 10


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int, ticket: Ticket) -> bytes:
    """The whole body of an ASGI request, counted as it arrives.

    Raises:
        BodyTooLarge: more than ``limit`` bytes; found out without reading them where the client says so in advance.
        ClientDisconnect: the client hung up.
        Overloaded: there is no room for it now.
        UnsupportedMediaType: a compressed body.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise UnsupportedMediaType("compressed bodies are not accepted; send the body as it is")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise BodyTooLarge(f"the body has {int(length):,} bytes, over the limit of {limit:,}")
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        ticket.take_bytes(len(chunk))
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body has more than {limit:,} bytes")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def read_instances(
    body: bytes, headers: Mapping[str, str], modality: Modality, *, max_instances: int, pairs: bool = False
) -> Sequence[bytes]:
    """The instances of a prediction request: image files, texts in UTF-8, or what `pack_pair` makes of two of them.

    Args:
        body: JSON ``{"instances": [...]}``, multipart, one raw image, or one text as ``text/plain``.
        headers: with names in lower case; ``Content-Type`` decides, except that an image model takes anything that is not JSON for an image:
            ``curl --data-binary`` says ``application/x-www-form-urlencoded``.
        modality: of the model that is asked.
        max_instances: at most.
        pairs: whether a text model reads pairs of texts.

    Raises:
        InputError: the body or one of its instances cannot be read.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if pairs and media_type in ("multipart/form-data", "text/plain"):
        raise InvalidInstances(f"{_SEND_PAIRS}, as an instance in application/json")
    if media_type == "multipart/form-data":
        instances = _from_multipart(body, headers["content-type"], max_instances)
    elif modality is Modality.IMAGE and _is_raw_image(body, media_type):
        if not body:
            raise EmptyBody("the body is empty; send the bytes of one image file")
        instances = [body]
    elif modality is Modality.TEXT and media_type == "text/plain":
        instances = [body]
    elif media_type in ("", "application/json", "application/x-www-form-urlencoded") or media_type.endswith("+json"):
        instances = _from_json(body, _reader(modality, pairs=pairs), max_instances)
    else:
        raise UnsupportedMediaType(
            f"a body of this type is not accepted; send application/json{_or_an_image(modality)}"
        )
    if not instances:
        raise InvalidInstances("there are no instances; send at least one")
    return instances


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise TooManyInstances(f"{count:,} instances are over the limit of {most} a request")


def _or_an_image(modality: Modality) -> str:
    return ", multipart/form-data or the bytes of one image file" if modality is Modality.IMAGE else ""


def _is_raw_image(body: bytes, media_type: str) -> bool:
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        return True
    return media_type in ("", "application/x-www-form-urlencoded") and body.lstrip()[:1] not in (b"{", b"[")


def _from_multipart(body: bytes, content_type: str, max_instances: int) -> list[bytes]:
    """Every part is an instance, whatever its name and type.

    As RFC 2046 (5.1.1) allows, a line that only starts like a delimiter is taken for one, and then refused. A regular
    expression, because all requests wait meanwhile: the worst 16 MiB take it 30 ms, `bytes.split` 70, a parser in Python seconds.
    """
    delimiter = re.escape(b"\r\n--" + _boundary(content_type))
    _preamble, *pieces = re.split(delimiter, b"\r\n" + body, maxsplit=max_instances + 1)
    parts = list(takewhile(lambda piece: not piece.startswith(b"--"), pieces))
    if len(parts) > max_instances:
        raise TooManyInstances(f"there are more parts than the {max_instances} instances that a request may have")
    if len(parts) == len(pieces):  # what there is may be part of a picture
        raise InvalidInstances("the multipart body ends too early; send it whole")
    return [_part_data(part) for part in parts]


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["content-type"] = content_type[:_MAX_LINE]  # the time it takes grows with the square of the length
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise InvalidInstances("the Content-Type names no boundary of 1 to 70 characters; send one")
    return boundary.encode()


def _part_data(part: bytes) -> bytes:
    """What follows the first empty line of a part, which begins with the rest of its delimiter's line."""
    line_end = _LINE_END.match(part)
    start = line_end.end() if line_end else len(part)
    empty_line = part.find(b"\r\n\r\n", start, start + _MAX_PART_HEADERS)
    if empty_line < 0:
        raise InvalidInstances("the multipart body cannot be parsed; send each part with an empty line before its data")
    return part[empty_line + 4 :]


def _from_json(body: bytes, read: Callable[[int, Any], bytes], max_instances: int) -> list[bytes]:
    document = parse_json(body)
    if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
        raise InvalidInstances('the body must be {"instances": [...]}')
    _check_count(len(document["instances"]), max_instances)
    return [read(index, instance) for index, instance in enumerate(document["instances"])]


def _reader(modality: Modality, *, pairs: bool) -> Callable[[int, Any], bytes]:
    if modality is Modality.IMAGE:
        return _image_instance
    return _pair_instance if pairs else _text_instance


def _text_instance(index: int, instance: Any) -> bytes:
    if not isinstance(instance, str):
        raise InvalidInstances(f"instance {index} (/instances/{index}): this model reads single texts; send a string")
    return instance.encode()


def _pair_instance(index: int, instance: Any) -> bytes:
    parts = [instance.get("text"), instance.get("text_pair")] if isinstance(instance, dict) else instance
    match parts:
        case [str(first), str(second)]:
            return pack_pair(first.encode(), second.encode())
    raise InvalidInstances(f"instance {index} (/instances/{index}): {_SEND_PAIRS}")


def _image_instance(index: int, instance: Any) -> bytes:
    pointer = f"instance {index} (/instances/{index}"
    if not isinstance(instance, dict) or not isinstance(instance.get("b64"), str):
        raise InvalidInstances(f'{pointer}): send {{"b64": "..."}} with the image file in base64')
    try:
        return binascii.a2b_base64(instance["b64"].encode(), strict_mode=True)
    except (binascii.Error, ValueError):
        raise InvalidBase64(f"{pointer}/b64): this is not standard base64 with padding, and no data: URL") from None


def parse_json(body: bytes) -> Any:
    """A JSON document in UTF-8, strictly.

    Raises:
        InvalidUtf8, InvalidUnicode, NonFinite, JsonTooDeep, InvalidJson: what is wrong with it.
    """
    body = body.removeprefix(_BOM)
    containers = body.count(b"{") + body.count(b"[")
    if containers > MAX_JSON_CONTAINERS:  # no request needs them; millions take seconds
        raise InvalidInstances(f"the JSON has more than {MAX_JSON_CONTAINERS:,} brackets; send fewer instances")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _json_error(body, str(error)) from None
    if containers > MAX_JSON_DEPTH and _deeper_than(document, MAX_JSON_DEPTH):
        raise JsonTooDeep(_TOO_DEEP)
    return document


def _json_error(body: bytes, reason: str) -> InputError:
    """Which error orjson's refusal stands for: told by what json refuses too, not by the words of a message."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return InvalidUtf8("the body is not UTF-8")
    syntax = InvalidJson(f"the body is no JSON: {reason}")
    if len(body) > _EXPLAINED_BYTES:
        return syntax
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        return JsonTooDeep(_TOO_DEEP)
    except NonFinite as error:
        return error
    except ValueError:
        return syntax
    if _deeper_than(document, MAX_JSON_DEPTH):
        return JsonTooDeep(_TOO_DEEP)
    if _SURROGATE.search(text):
        return InvalidUnicode("the JSON holds a lone surrogate, which is no character")
    return NonFinite("the JSON holds a number that is too large; numbers must be finite")


def _refuse_constant(name: str) -> NoReturn:
    raise NonFinite(f"{name} is no JSON; numbers must be finite")


def _deeper_than(document: Any, limit: int) -> bool:
    level = [document]
    for _ in range(limit):
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True
