"""A real HTTP server in this process, and a client that sends and reads bytes as they are."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import uvicorn
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from models.errors import BodyTooLarge, GraftworkError
from service.api.metrics import Metrics
from service.api.telemetry import RECORD, Telemetry, refuse
from service.http.connection import ClientConnection
from service.http.limits import ConnectionLimits
from service.http.scope import CONNECTION
from service.http.sweep import Sweep
from tests.processes import wait_for
from tests.server_process import Reply, samples

PATIENT = ConnectionLimits(sweep_seconds=0.05)  # the usual limits, looked at often
HOST = b"Host: here\r\n"
CLOSE = b"Connection: close\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


class WireServer:
    """uvicorn with our connections and telemetry; its answers encode what its handlers were given.

    Attributes:
        handled: requests that a handler has begun with.
        bodies: what ``/echo`` has read.
        gate: ``/hold`` answers when it is set.
        hung_up: how often ``/hold`` was told that its client is gone.
        log: the fields of the lines of the access log.
        telemetry: around the handlers.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.handled = 0
        self.bodies: list[bytes] = []
        self.gate = threading.Event()
        self.hung_up = 0
        self.log: list[dict[str, Any]] = []
        self.metrics = Metrics("0")
        routes = [
            Route("/echo", self.echo, methods=["GET", "POST"]),
            Route("/headers", self.headers, methods=["POST"]),
            Route("/hold", self.hold, methods=["GET", "POST"]),
            Route("/much", self.much),
            Route("/refuse", self.refuse, methods=["POST"]),
        ]
        app = ExceptionMiddleware(Router(routes), {GraftworkError: _answer_error})
        self.telemetry = Telemetry(app, self.metrics, on_cut_off=lambda: None)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self._listening.getsockname()[1]
        self.uvicorn = uvicorn.Server(
            uvicorn.Config(
                self.telemetry,
                http=partial(ClientConnection, limits=limits, sweep=Sweep(limits.sweep_seconds)),  # type: ignore[arg-type]
                loop="uvloop",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=10,
            )
        )
        self.thread = threading.Thread(target=self.uvicorn.run, kwargs={"sockets": [self._listening]})

    # Handlers

    async def echo(self, request: Request) -> Response:
        """Answers with the digest of the body, and the query."""
        request.scope[RECORD].counted = True
        self.handled += 1
        body = await request.body()
        self.bodies.append(body)
        return _json({"sha256": hashlib.sha256(body).hexdigest(), "query": request.url.query})

    async def headers(self, request: Request) -> Response:
        """Answers with the names of the headers, once the body is read."""
        await request.body()
        return _json({"names": sorted(request.headers)})

    async def hold(self, request: Request) -> Response:
        """Waits for the gate or for the client to leave, and only then reads the body."""
        gone = asyncio.Event()

        def hang_up() -> None:
            self.hung_up += 1
            gone.set()

        connection: ClientConnection = request.scope[CONNECTION]
        connection.on_disconnect(hang_up)
        self.handled += 1
        while not self.gate.is_set() and not gone.is_set():
            await asyncio.sleep(0.01)
        match request.query_params.get("then"):
            case "register":
                connection.on_disconnect(hang_up)
                await asyncio.sleep(0.01)
            case "clear":
                connection.on_disconnect(None)
        body = await request.body() if request.method == "POST" else b""
        return _json({"sha256": hashlib.sha256(body).hexdigest(), "query": request.url.query})

    async def much(self, request: Request) -> Response:
        """Answers with so many bytes."""
        return Response(bytes(int(request.query_params["bytes"])))

    async def refuse(self, request: Request) -> Response:
        """Answers before the body is read."""
        raise BodyTooLarge("too large")

    # A client

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def talk(self, *pieces: bytes) -> list[Reply]:
        """Sends pieces and reads until the server ends the connection."""
        with self.connect() as connection:
            for piece in pieces:
                with suppress(ConnectionError):  # the answer is there already
                    connection.sendall(piece)
            return replies(read_all(connection))

    def ask(self, *pieces: bytes) -> Reply:
        """Sends pieces and reads the one answer, after which the server must end the connection."""
        return only(self.talk(*pieces))

    def answers(self) -> bool:
        return self.ask(get(b"/echo", CLOSE)).status == 200

    # What can be seen of the server

    def connections(self) -> int:
        return len(self.uvicorn.server_state.connections)

    def outcomes(self) -> dict[str, float]:
        """Counted requests by each outcome that there was."""
        found = samples(self.metrics.exposition(), "graftwork_requests_total")
        return {outcome: value for (_, outcome, _), value in found.items() if value}


@contextmanager
def running(limits: ConnectionLimits) -> Iterator[WireServer]:
    """A server, from its start to its orderly end."""
    server = WireServer(limits)

    def keep(record: logging.LogRecord) -> bool:
        server.log.append(getattr(record, "fields", {}))
        return False  # it goes nowhere else

    access = logging.getLogger("graftwork.access")
    level = access.level
    access.addFilter(keep)
    access.setLevel(logging.INFO)
    server.thread.start()
    try:
        wait_for(lambda: server.uvicorn.started, 10)
        yield server
    finally:
        server.gate.set()
        server.uvicorn.should_exit = True
        server.thread.join(20)
        access.removeFilter(keep)
        access.setLevel(level)
        assert not server.thread.is_alive()


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GraftworkError)
    return refuse(request.scope, error)


def _json(document: object) -> Response:
    return Response(json.dumps(document), media_type="application/json")


# Bytes


def get(target: bytes, headers: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (target, HOST, headers)


def post(target: bytes, body: bytes, headers: bytes = b"", *, length: int | None = None) -> bytes:
    """A request that may claim to be longer than it is."""
    size = len(body) if length is None else length
    return b"POST %b HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b" % (target, HOST, headers, size, body)


def read_all(connection: socket.socket) -> bytes:
    """What the server has to say until it ends the connection, in whatever way."""
    data = b""
    with suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 16):
            data += chunk
    return data


def read_until(connection: socket.socket, marker: bytes, count: int = 1) -> bytes:
    """What the server says until it has said something so often."""
    data = b""
    while data.count(marker) < count:
        chunk = connection.recv(1 << 16)
        assert chunk, data
        data += chunk
    return data


def replies(data: bytes) -> list[Reply]:
    """All responses in what was received; each must be whole."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = int(headers["content-length"])
        assert len(data) >= size
        found.append(Reply(status=int(status_line.split()[1]), headers=headers, body=data[:size]))
        data = data[size:]
    return found


def only(found: list[Reply]) -> Reply:
    (reply,) = found
    return reply


def is_echo(reply: Reply, body: bytes = b"") -> bool:
    return reply.status == 200 and reply.json()["sha256"] == hashlib.sha256(body).hexdigest()


def check_refusal(reply: Reply, status: int, code: str) -> None:
    """A problem like any other, after which the connection ends."""
    assert (reply.status, reply.json()["code"]) == (status, code), reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["connection"] == "close"
    assert set(reply.json()) == {"type", "title", "status", "code", "detail", "request_id"}
    assert reply.json()["request_id"] == reply.headers["x-request-id"]
