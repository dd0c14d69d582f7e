"""The worker's end of a connection; it says, has in its hands and hears what the test makes of it."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import uvloop

from service.flight_record import FlightRecord
from service.messages import PREFIX, Answer, Hello, Message, Predict, Timings, pack, unpack
from tests.service.site import NO_PID

_pids = itertools.count(NO_PID)


class ScriptedWorker:
    """A worker that has just connected.

    Args:
        directory: where it leaves its flight record.
        index: its number.
        pid: of nobody, unless the test says so.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        directory: Path,
        *,
        index: int = 0,
        pid: int | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.hello = Hello(worker=index, pid=next(_pids) if pid is None else pid, device="cpu")
        self._record = FlightRecord(
            directory / f"flight-{self.hello.pid}", decode_threads=2, compute_threads=1, max_batch_rows=8
        )

    def say(self, message: Message, payload: bytes = b"") -> None:
        self._writer.write(pack(message, len(payload)) + payload)

    async def hear(self) -> tuple[Message, bytes]:
        header_size, payload_size = PREFIX.unpack(await self._reader.readexactly(PREFIX.size))
        message = unpack(await self._reader.readexactly(header_size))
        return message, await self._reader.readexactly(payload_size)

    async def hear_a_request(self) -> tuple[Predict, bytes]:
        message, payload = await self.hear()
        assert isinstance(message, Predict), message
        return message, payload

    def answer(self, request: Predict, payload: bytes) -> None:
        self.say(Answer(id=request.id, timings=Timings()), payload)

    def hang_up(self) -> None:
        self._writer.close()

    def die_with(self, rows: Iterable[tuple[Predict, int]]) -> None:
        """Hangs up while it has rows in its hands, each by its request and index."""
        self.take_in_hand(rows)
        self.hang_up()

    def take_in_hand(self, rows: Iterable[tuple[Predict, int]]) -> None:
        """Notes that it computes rows, each by its request and index."""
        self._record.computing((request.id, row) for request, row in rows)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def perform(story: Callable[[], Coroutine[Any, Any, None]], *, seconds: float = 30.0) -> None:
    """Runs a story on the server's own kind of event loop, which closes and complains in its own way; it must not complain."""

    async def run() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with asyncio.timeout(seconds):
            await story()
        gc.collect()  # an exception that nobody has looked at complains when it is collected
        await asyncio.sleep(0)
        assert not complaints

    uvloop.run(run())
