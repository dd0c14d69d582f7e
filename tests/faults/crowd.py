"""Many connections of clients that take their time, in a thread of their own."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import uvloop

OPENED_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a client behaves on its connection.

    Attributes:
        pieces: what it sends; after the last one it sends no more.
        pause: seconds between two pieces.
        reads: what comes back. One that does not read has a small buffer, too.
    """

    pieces: Iterable[bytes] = ()
    pause: float = 0.0
    reads: bool = True


@dataclass(frozen=True, kw_only=True)
class Life:
    """A connection that the server has ended.

    Attributes:
        seconds: from its start.
        answer: all that came back; nothing where it was not read.
    """

    seconds: float
    answer: bytes

    @property
    def status(self) -> int:
        """Of the answer, or 0 where there is none."""
        return int(self.answer[9:12]) if self.answer.startswith(b"HTTP/1.1 ") else 0


class Crowd:
    """Clients of one manner; a context manager, at whose end they hang up.

    Args:
        port: of a server on this machine.
        clients: how many.
        manner: of each.
        replaced: whether a client whose connection is ended connects again.
        over_seconds: in which they come, evenly.

    Attributes:
        opened: connections that were made, and on which a first piece, if any, was sent.
        failed: that could not be made.
        lives: those that the server has ended.
    """

    def __init__(
        self, port: int, clients: int, manner: Manner, *, replaced: bool = False, over_seconds: float = 0.0
    ) -> None:
        self._port = port
        self._clients = clients
        self._manner = manner
        self._replaced = replaced
        self._over_seconds = over_seconds
        self.opened = 0
        self.failed = 0
        self.lives: list[Life] = []
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()))
        self._running = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._running.wait(30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._door = asyncio.Semaphore(OPENED_AT_ONCE)
        self._running.set()
        clients = [asyncio.create_task(self._live(number)) for number in range(self._clients)]
        await self._over.wait()
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _live(self, number: int) -> None:
        await asyncio.sleep(self._over_seconds * number / self._clients)
        await self._connect()
        while self._replaced:
            await self._connect()

    async def _connect(self) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        if not self._manner.reads:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer = None
        try:
            async with self._door:
                await self._loop.sock_connect(connection, ("127.0.0.1", self._port))
                started = time.monotonic()
                reader, writer = await asyncio.open_connection(
                    sock=connection, limit=1 << 16 if self._manner.reads else 1
                )
                pieces = iter(self._manner.pieces)
                writer.writelines(itertools.islice(pieces, 1))
            self.opened += 1
            sending = asyncio.create_task(self._send(writer, pieces))
            try:
                answer = await reader.read() if self._manner.reads else await sending
            except ConnectionError:
                answer = b""
            finally:
                sending.cancel()
            self.lives.append(Life(seconds=time.monotonic() - started, answer=answer))
        except OSError:
            self.failed += 1
            await asyncio.sleep(0.1)
        finally:
            if writer is not None:
                writer.close()
            connection.close()

    async def _send(self, writer: asyncio.StreamWriter, pieces: Iterator[bytes]) -> bytes:
        """Sends until the other end is gone."""
        with suppress(ConnectionError):
            for piece in pieces:
                await asyncio.sleep(self._manner.pause)
                writer.write(piece)
                await writer.drain()
        return b""
