"""A prediction request's body: bytes with limits, and the instances in them."""

from __future__ import annotations

import binascii
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import orjson
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from models.backbone import Modality
from models.errors import (
    BodyTooLarge,
    EmptyBody,
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

MAX_JSON_DEPTH = 100
_BOM = b"\xef\xbb\xbf"


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: more than ``limit`` bytes; found out without reading them where the client says so in advance.
        UnsupportedMediaType: a compressed body.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise UnsupportedMediaType("compressed bodies are not accepted; send the body as it is")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise BodyTooLarge(f"the body has {int(length):,} bytes, over the limit of {limit:,}")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body has more than {limit:,} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def read_instances(body: bytes, headers: Headers, modality: Modality, *, max_instances: int) -> Sequence[bytes]:
    """The instances of a prediction request: image files, or texts in UTF-8.

    Args:
        body: JSON ``{"instances": [...]}``, multipart, one raw image, or one text as ``text/plain``.
        headers: ``Content-Type`` decides, except that an image model takes anything that is not JSON for an image:
            ``curl --data-binary`` says ``application/x-www-form-urlencoded``.
        modality: of the model that is asked.
        max_instances: at most.

    Raises:
        InputError: the body or one of its instances cannot be read.
    """
    if not body:
        raise EmptyBody("the body is empty; send a JSON object with 'instances'" + _or_an_image(modality))
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        instances = await _from_multipart(body, headers, modality)
    elif (modality is Modality.IMAGE and _is_raw_image(body, media_type)) or (
        modality is Modality.TEXT and media_type == "text/plain"
    ):
        instances = [body]
    elif media_type in ("", "application/json", "application/x-www-form-urlencoded") or media_type.endswith("+json"):
        instances = _from_json(body, modality)
    else:
        raise UnsupportedMediaType(
            f"a body of this type is not accepted; send application/json{_or_an_image(modality)}"
        )
    if not instances:
        raise InvalidInstances("there are no instances; send at least one")
    if len(instances) > max_instances:
        raise TooManyInstances(f"{len(instances):,} instances are over the limit of {max_instances} a request")
    return instances


def _or_an_image(modality: Modality) -> str:
    return ", multipart/form-data or the bytes of one image file" if modality is Modality.IMAGE else ""


def _is_raw_image(body: bytes, media_type: str) -> bool:
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        return True
    return media_type in ("", "application/x-www-form-urlencoded") and body.lstrip()[:1] not in (b"{", b"[")


async def _from_multipart(body: bytes, headers: Headers, modality: Modality) -> list[bytes]:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(headers, stream(), max_files=1000, max_fields=1000, max_part_size=len(body))  # type: ignore[arg-type]
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError):
        raise InvalidInstances("the multipart body cannot be parsed") from None
    try:
        parts = [value for _, value in form.multi_items()]
        if modality is Modality.IMAGE and not all(isinstance(part, UploadFile) for part in parts):
            raise InvalidInstances("every part must be an image file: curl -F image=@photo.jpg")
        return [await part.read() if isinstance(part, UploadFile) else part.encode() for part in parts]
    finally:
        await form.close()


def _from_json(body: bytes, modality: Modality) -> list[bytes]:
    document = parse_json(body)
    if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
        raise InvalidInstances('the body must be {"instances": [...]}')
    read = _image_instance if modality is Modality.IMAGE else _text_instance
    return [read(index, instance) for index, instance in enumerate(document["instances"])]


def _text_instance(index: int, instance: Any) -> bytes:
    if isinstance(instance, float) and instance in (float("inf"), float("-inf")):
        raise NonFinite(f"instance {index}: numbers must be finite")
    if not isinstance(instance, str):
        raise InvalidInstances(f"instance {index} (/instances/{index}): send a string")
    return instance.encode()


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
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        _explain_json(body, str(error))
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH and _deeper_than(document, MAX_JSON_DEPTH):
        raise JsonTooDeep(f"the JSON is nested more than {MAX_JSON_DEPTH} levels deep")
    return document


def _explain_json(body: bytes, reason: str) -> NoReturn:
    """Says which error orjson's message stands for; the slow ways are only for bodies that are refused anyway."""
    if "recursion" in reason.lower():
        raise JsonTooDeep(f"the JSON is nested more than {MAX_JSON_DEPTH} levels deep")
    if "surrogate" in reason.lower():
        raise InvalidUnicode("the JSON holds a lone surrogate, which is no character")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidUtf8("the body is not UTF-8") from None

    def refuse(constant: str) -> NoReturn:
        raise NonFinite(f"{constant} is no JSON; numbers must be finite")

    with suppress(ValueError, RecursionError):
        json.loads(text, parse_constant=refuse)
    raise InvalidJson(f"the body is no JSON: {reason}")


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
