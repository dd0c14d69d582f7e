"""Requests for inferences, and what they are answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from models.errors import GraftworkError
from service.api.oip.tensor import pack_elements
from tests.server_process import Reply

Json = dict[str, Any]


def text_input(*texts: object, **changes: Any) -> Json:
    """The input of a text model; a member that is changed to None is left out."""
    return _without({"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts), **changes})


def text_bytes(*texts: bytes, **changes: Any) -> Json:
    """The same input, whose bytes follow the JSON."""
    size = len(pack_elements(texts))
    return text_input(*texts, data=None, parameters={"binary_data_size": size}, **changes)


def body_of(*inputs: object, **members: Any) -> bytes:
    return json.dumps(_without({"inputs": list(inputs), **members})).encode()


def _without(document: Json) -> Json:
    return {name: value for name, value in document.items() if value is not None}


def check_error(reply: Reply, status: int, code: str, *parts: str) -> None:
    """An error in the shape of the Open Inference Protocol, whose message has certain parts, and no secrets."""
    assert (reply.status, reply.code) == (status, code), reply.body
    assert reply.headers["content-type"] == "application/json"
    assert "x-request-id" in reply.headers
    document: Mapping[str, object] = reply.json()
    assert list(document) == ["error"]
    message = document["error"]
    assert isinstance(message, str)
    assert len(message) < 1000
    for part in parts:
        assert part in message
    for secret in ("/tmp", "Traceback", "Error(", ".py", "object at"):
        assert secret not in message


def refusal(call: Callable[[], object]) -> GraftworkError | None:
    """The error that a call ends with, if it does; any other one than ours goes on."""
    try:
        call()
    except GraftworkError as error:
        return error
    return None
