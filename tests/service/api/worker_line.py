"""A connection to a worker, and at its other end one that does what a test says."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.api.worker_connection import Reply, WorkerConnection
from service.messages import Message, Predict
from tests.service.scripted_worker import ScriptedWorker, perform, until


@dataclass(kw_only=True)
class Line:
    """A connection and the worker at its other end.

    Attributes:
        messages: that were no answers, but the hello.
        ends: one entry each time that its end was told.
    """

    connection: WorkerConnection
    worker: ScriptedWorker
    messages: list[Message]
    ends: list[WorkerConnection]

    def ask(self, *items: bytes) -> asyncio.Task[Reply]:
        request = Predict(id=0, name="m", number=1, sizes=[len(item) for item in items], deadline=time.monotonic() + 60)
        return asyncio.create_task(self.connection.predict(request, items))


def play(story: Callable[[Line], Coroutine[Any, Any, None]], *, pid: int | None = None, hello: bool = True) -> None:
    async def on_stage() -> None:
        with tempfile.TemporaryDirectory(prefix="gw-test-") as directory:
            messages: list[Message] = []
            ends: list[WorkerConnection] = []
            connection = WorkerConnection(Path(directory), lambda _, message: messages.append(message), ends.append)
            ours, theirs = socket.socketpair()
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, ours)
            streams = await asyncio.open_connection(sock=theirs)
            worker = ScriptedWorker(*streams, Path(directory), pid=pid)
            if hello:
                worker.say(worker.hello)
                await until(lambda: messages)
                assert messages.pop() == connection.hello == worker.hello
            try:
                await story(Line(connection=connection, worker=worker, messages=messages, ends=ends))
            finally:  # uvloop waits for connections that are left open
                worker.hang_up()
                await until(lambda: ends)
            assert ends == [connection]
            assert connection.rows == 0
            assert not connection.loaded

    perform(on_stage)
