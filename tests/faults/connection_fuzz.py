"""Whole connections: requests of both protocols in a row, whose bytes are edited, cut, left open or broken off (G8, H06).

Each follows from a seed and its number, as in `tests.faults.byte_fuzz`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from tests.faults.byte_fuzz import Request, odd_request
from tests.faults.fuzz_result import GRACE_SECONDS, FuzzResult
from tests.faults.mutation import mutated
from tests.server_process import Reply
from tests.service.wire import replies

AT_ONCE = 16
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
SILENCE_SECONDS = 0.3  # after which a patient client, too, says that it has nothing to add
FRAMING = [
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"),
    *(b"Transfer-Encoding: identity\r\n", b"Expect: 100-continue\r\n", b" folded: 1\r\n", b"a : b\r\n", b"\n", b"\0"),
]

End: TypeAlias = Literal["closes", "half-closes", "waits", "resets"]


@dataclass(frozen=True, kw_only=True)
class Talk:
    """What a client does with a connection.

    Attributes:
        pieces: sent one after the other.
        end: what it does then; one that ``closes`` has said so in its last request.
        ids: of its requests, where all of them must be answered.
    """

    pieces: Sequence[bytes]
    end: End
    ids: Sequence[str] = ()


def odd_talk(random: Random, models: Sequence[str], aliases: Sequence[str]) -> Talk:
    """A connection with a few requests, that is odd in a few places, or in none."""
    count = random.choice([1, 1, 2, 3, 8])
    if random.random() < 0.3:
        ids = [f"r{number}" for number in range(count)]
        data = b"".join(_good(random, models, each, is_last=each == ids[-1]) for each in ids)
        return Talk(pieces=_cut(random, data), end="closes", ids=ids)
    requests = [
        _framed(random, odd_request(random, models, aliases))
        if random.random() < 0.6
        else _good(random, models, f"r{number}", is_last=False)
        for number in range(count)
    ]
    data = b"".join(requests)
    if random.random() < 0.5:
        data = mutated(random, data)
    return Talk(pieces=_cut(random, data), end=random.choice(["half-closes", "half-closes", "waits", "resets"]))


def _good(random: Random, models: Sequence[str], request_id: str, *, is_last: bool) -> bytes:
    """A request that is answered, if only with an error."""
    model = random.choice(models)
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES"}
    in_json = json.dumps({"inputs": [{**tensor, "data": ["a"]}]}).encode()
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 5}}]}).encode()
    method, path, extra, body = random.choice(
        [
            ("POST", f"/v1/models/{model}:predict", "", b'{"instances": ["a"]}'),
            ("POST", f"/v2/models/{model}/infer", "", in_json),
            (
                "POST",
                f"/v2/models/{model}/infer",
                f"Inference-Header-Content-Length: {len(head)}\r\n",
                head + b"\1\0\0\0a",
            ),
            ("GET", f"/v2/models/{model}", "", b""),
            ("GET", "/v2/nowhere", "", b""),
        ]
    )
    close = "Connection: close\r\n" if is_last else ""
    lines = f"{method} {path} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {request_id}\r\n{extra}{close}Content-Length: {len(body)}"
    return lines.encode() + b"\r\n\r\n" + body


def _framed(random: Random, request: Request) -> bytes:
    """Its bytes, now and then with another frame than the body's."""
    method = request.method if request.method != "HEAD" else "GET"  # whose answers have a length and no body
    lines = [f"{method} {request.target} HTTP/1.1\r\n".encode("latin-1", "replace")]
    names = {name for name, _ in request.headers}
    lines += [b"Host: a\r\n"] if "Host" not in names else []
    lines += [b"%s: %s\r\n" % (name.encode(), value) for name, value in request.headers]
    if random.random() < 0.2:
        lines.insert(random.randint(1, len(lines)), random.choice(FRAMING))
    if isinstance(request.body, bytes):
        size = len(request.body) + (random.randint(-3, 3) if random.random() < 0.1 else 0)
        return b"".join([*lines, b"Content-Length: %d\r\n\r\n" % max(0, size), request.body])
    chunks = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in request.body if chunk]
    return b"".join([*lines, b"Transfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n"])


def _cut(random: Random, data: bytes) -> Sequence[bytes]:
    places = sorted(random.randint(0, len(data)) for _ in range(random.choice([0, 0, 1, 3])))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def connection_fuzz(
    server_url: str, cases: int, models: Sequence[str], aliases: Sequence[str], result: FuzzResult
) -> None:
    """Opens so many connections, a few at a time.

    Args:
        server_url: such as ``http://127.0.0.1:8000``.
        cases: how many.
        models: that exist.
        aliases: that exist.
        result: where the answers are counted.
    """
    port = urlsplit(server_url).port
    assert port is not None
    asyncio.run(_hold_all(port, cases, models, aliases, result))


async def _hold_all(port: int, cases: int, models: Sequence[str], aliases: Sequence[str], result: FuzzResult) -> None:
    numbers = iter(range(cases))

    async def hold_some() -> None:
        for number in numbers:
            talk = odd_talk(Random(f"{result.seed} {number}"), models, aliases)
            await _hold(port, f"connection {number}: {talk}", talk, result)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(hold_some())


async def _hold(port: int, text: str, talk: Talk, result: FuzzResult) -> None:
    started = time.monotonic()
    try:
        async with asyncio.timeout(result.deadline + GRACE_SECONDS):
            data = await _exchange(port, talk)
    except (OSError, TimeoutError) as error:
        result.fail(f"not over after {time.monotonic() - started:.2f} s: {error!r}", text)
        return
    if talk.end == "resets":
        return
    try:
        answers = replies(data.replace(INTERIM, b""))
    except (AssertionError, LookupError, ValueError):
        result.fail(f"no whole answers: {data[-300:]!r}", text)
        return
    _count(answers, text, talk, time.monotonic() - started, result)


def _count(answers: Sequence[Reply], text: str, talk: Talk, seconds: float, result: FuzzResult) -> None:
    for answer in answers:
        result.count(
            text,
            {},
            method="POST",
            target=None,
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
            seconds=seconds,
        )
    found = [answer.headers.get("x-request-id", "") for answer in answers]
    if talk.ids and found != talk.ids:
        result.fail(f"answered {found} of {talk.ids}", text)


async def _exchange(port: int, talk: Talk) -> bytes:
    """What the server says until it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        for piece in talk.pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        match talk.end:
            case "resets":
                connection: socket.socket = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return received
            case "waits":
                received = await _until_silent(reader)
        if talk.end != "closes" and not writer.transport.is_closing():
            writer.write_eof()
        while chunk := await reader.read(1 << 16):
            received += chunk
    except OSError:
        pass  # the server was done before the client; what it said is looked at
    finally:
        writer.close()
    return received


async def _until_silent(reader: asyncio.StreamReader) -> bytes:
    received = b""
    try:
        while chunk := await asyncio.wait_for(reader.read(1 << 16), SILENCE_SECONDS):
            received += chunk
    except TimeoutError:
        pass
    return received
