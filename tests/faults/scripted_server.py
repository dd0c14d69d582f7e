"""A small HTTP server that answers as it is told, rightly or not: what the load generator is tested against."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    reader: asyncio.StreamReader

    @property
    def id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def labels(self) -> list[str]:
        return [sha256(text.encode()).hexdigest() for text in json.loads(self.body)["instances"]]

    def answer(
        self,
        *,
        status: int = 200,
        labels: Sequence[str] | None = None,
        id: str | None = None,
        headers: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
    ) -> bytes:
        """A right answer, but for what is given. Header names are as odd as HTTP allows; None leaves one out."""
        id = self.id if id is None else id
        if body is None:
            predictions = [{"label": label, "score": 1.0} for label in (self.labels if labels is None else labels)]
            document = {"predictions": predictions, "model": "echo", "version": 1, "request_id": id}
            body = json.dumps(document if status == 200 else {"status": status, "code": f"code_{status}"}).encode()
        fields = {"X-REQUEST-id": id, "content-Length": str(len(body)), **(headers or {})}
        lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        return "\r\n".join([f"HTTP/1.1 {status} Whatever", *lines, "", ""]).encode() + body


Act = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


async def rightly(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(asked.answer())


@dataclass(kw_only=True)
class ScriptedServer:
    """Runs in a thread of its own between ``with`` and its end.

    Attributes:
        script: what is done with the request of a number; all others are answered rightly.
        default: what is done with those.
        page: what GET /metrics answers.
        asked: all requests, by number.
        connections: how many there were.
        port: where it listens.
    """

    script: Mapping[int, Act] = field(default_factory=dict)
    default: Act = rightly
    page: Callable[[], str] = str
    port: int = 0

    def __post_init__(self) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for _ in range(3):
            await asyncio.sleep(0)  # what was just accepted gets to _serve, the end of which closes it

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                asked = await _read(reader)
                if asked.path == "/metrics":
                    writer.write(asked.answer(id="", body=self.page().encode()))
                    continue
                number = len(self.asked)
                self.asked.append(asked)
                await self.script.get(number, self.default)(asked, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method=method, path=path, headers=headers, body=body, reader=reader)


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with a RST."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
