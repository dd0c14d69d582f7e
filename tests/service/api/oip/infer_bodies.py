"""Requests for inferences, and what they are answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from models.errors import GraftworkError
from service.api.oip.tensor import pack_elements
from tests.server_process import Reply
from tests.service.site import Play, Site

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


GOOD = body_of(text_input("1"))


async def ask(site: Site, *parts: bytes, path: str = "letters", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await site.request("POST", f"/v2/models/{path}/infer", b"".join(parts), headers=named)


async def ask_binary(site: Site, head: bytes, rest: bytes, **headers: str) -> Reply:
    return await ask(site, head, rest, inference_header_content_length=str(len(head)), **headers)


def refused(play: Play, body: bytes, status: int = 400, code: str = "invalid_tensor", *parts: str) -> None:
    async def story(site: Site) -> None:
        check_error(await ask(site, body), status, code, *parts)
        assert (await ask(site, GOOD)).status == 200

    play(story)


def refused_bytes(play: Play, tensor: Json, rest: bytes, code: str = "invalid_tensor") -> None:
    async def story(site: Site) -> None:
        check_error(await ask_binary(site, body_of(tensor), rest), 400, code)
        assert (await ask(site, GOOD)).status == 200

    play(story)
