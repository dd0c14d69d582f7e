"""API process and workers as threads of this process, asked through ASGI."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from service.api.application import Application
from service.flight_record import FlightRecord
from service.http.scope import CONNECTION
from service.messages import Hello
from service.worker.worker import Worker
from tests.server_process import Reply, json_body, samples
from tests.service.echo_engine import EchoEngine, EchoRegistry, echo_version


class Client:
    """The connection of a client that may hang up.

    Attributes:
        callback: what is to be called then.
    """

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None

    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback

    def hang_up(self) -> None:
        assert self.callback is not None
        self.callback()


MAX_BATCH_ROWS = 8


NO_PID = 1 << 30  # and above: no process has such a number, so that a worker in a thread can be killed without harm


class Site:
    """The whole application in this process; its workers are threads on the echo engine.

    Args:
        application: running.
        path: of the socket that workers connect to.
    """

    def __init__(self, application: Application, path: str) -> None:
        self.application = application
        self.engine = EchoEngine()
        self._path = path
        self._workers: list[tuple[socket.socket, threading.Thread]] = []
        self._pids = itertools.count()

    async def start_worker(self) -> None:
        """Starts a worker that knows ``letters:1`` and ``moods:1``, and returns when it has loaded them."""
        registry = EchoRegistry(echo_version(self.engine, "letters"), echo_version(self.engine, "moods", weight=-3.0))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        hello = Hello(worker=len(self._workers), pid=NO_PID + next(self._pids), device="cpu")
        record = FlightRecord(
            Path(self._path).with_name(f"flight-{hello.pid}"),
            decode_threads=2,
            compute_threads=2,
            max_batch_rows=MAX_BATCH_ROWS,
        )
        worker = Worker(connection, registry, record, threads=2, max_batch_rows=MAX_BATCH_ROWS)
        thread = threading.Thread(target=worker.run, args=(hello,))
        thread.start()
        self._workers.append((connection, thread))
        while (await self.get("/health/ready")).status != 200:
            await asyncio.sleep(0.005)

    def stop_workers(self) -> None:
        """Lets every worker lose its connection."""
        self.engine.gate.set()
        for connection, thread in self._workers:
            connection.shutdown(socket.SHUT_RDWR)
            thread.join(30)
            connection.close()
        self._workers.clear()

    async def request(
        self,
        method: str,
        path: str,
        *chunks: bytes,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        client: Client | None = None,
    ) -> Reply:
        """One request, its body in chunks, straight to the application; its status is 0 where nothing was answered."""
        left = list(chunks)
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> dict[str, Any]:
            body = left.pop(0) if left else b""
            return {"type": "http.request", "body": body, "more_body": bool(left)}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (headers or {}).items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            CONNECTION: client,
        }
        await self.application.telemetry(scope, receive, send)
        if not sent:
            return Reply(status=0, headers={}, body=b"")
        start, *rest = sent
        return Reply(
            status=start["status"],
            headers={name.decode().lower(): value.decode() for name, value in start["headers"]},
            body=b"".join(message["body"] for message in rest),
        )

    async def get(self, path: str) -> Reply:
        return await self.request("GET", path)

    async def predict(self, model: str, instances: object, query: str = "", **headers: str) -> Reply:
        path = f"/v1/models/{model}:predict"
        return await self.request("POST", path, json_body(instances), query=query, headers=headers)

    async def metric(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a metric by those of its labels, in the order of the labels' names."""
        return samples((await self.get("/metrics")).body, name)

    async def outcomes(self) -> dict[tuple[str, ...], float]:
        """How many requests had each outcome that there was, by model, outcome and version."""
        return {labels: count for labels, count in (await self.metric("graftwork_requests_total")).items() if count}

    async def until(self, name: str, *labels: str, value: float) -> None:
        """Waits until a metric has a value."""
        while (await self.metric(name)).get(labels) != value:
            await asyncio.sleep(0.002)


Play = Callable[..., None]
