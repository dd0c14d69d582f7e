from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel
from starlette.requests import Request

from models.errors import InvalidDocument
from service.api.document import read_document


class Wanted(BaseModel):
    a: int = 0


def read(body: bytes) -> Wanted:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    return asyncio.run(read_document(Request(scope, receive), Wanted))


def test_an_object_is_read() -> None:
    assert read(b'{"a": 3}').a == 3


@pytest.mark.parametrize("body", [b"[]", b"[null, null]", b"null", b"0", b"true", b'"a"'])
def test_what_is_no_object_is_refused_without_the_name_of_a_class(body: bytes) -> None:
    with pytest.raises(InvalidDocument) as found:
        read(body)
    assert found.value.message == "the body must be a JSON object"
