"""Bodies of requests that change something: small JSON documents, read strictly."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from models.errors import BodyTooLarge, EmptyBody, InvalidDocument, InvalidJson, InvalidUtf8

MAX_BYTES = 4096

_Document = TypeVar("_Document", bound=BaseModel)


async def read_document(request: Request, kind: type[_Document], *, if_empty: bytes = b"") -> _Document:
    """The body of a request.

    Args:
        if_empty: what an empty body stands for, where that is allowed.

    Raises:
        BodyTooLarge, EmptyBody, InvalidUtf8, InvalidJson: it is no small JSON document, or says something twice.
        InvalidDocument: a member is missing, unknown or of another type.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise BodyTooLarge(f"the body has more than {MAX_BYTES:,} bytes")
    body = body or bytearray(if_empty)
    if not body:
        raise EmptyBody("the body is empty; send a JSON object")
    try:
        document = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except UnicodeDecodeError:
        raise InvalidUtf8("the body is not UTF-8") from None
    except (ValueError, RecursionError):
        raise InvalidJson("the body is no JSON") from None
    if not isinstance(document, dict):  # pydantic would name a class of ours
        raise InvalidDocument("the body must be a JSON object")
    try:
        return kind.model_validate(document, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"/{first['loc'][0]}"[:64] if first["loc"] else "the body"  # what comes after it is pydantic's own
        raise InvalidDocument(f"{where}: {first['msg'][:128]}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise InvalidJson("the body names a member twice")
    return document


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
