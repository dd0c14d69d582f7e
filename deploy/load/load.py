"""Requests to servers, and a look at every answer."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from uuid import uuid4

from answers import Answers
from connection import Connection, Target, header
from items import Item
from tally import Tally

LOOK_SECONDS = 0.2  # between two looks for answers that are overdue


class Load:
    """Asks servers about items, one after the other; who decides when is a loop (`loops`).

    Args:
        targets: the servers.
        items: what is asked, in turn.
        answers: knows the right ones; None looks at the status only.
        headers: of every request.
        timeout: seconds until a request without an answer is lost.

    Attributes:
        tally: what came of the requests.
        on_free: called with a connection that is free again, and the seconds that its server wants to be left alone.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        items: Sequence[Item],
        answers: Answers | None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.targets = targets
        self.timeout = timeout
        self.tally = Tally()
        self.on_free: Callable[[Connection, float], None] = lambda connection, wait: connection.close()
        self._items = items
        self._answers = answers
        self._turn = itertools.cycle(range(len(items)))
        run = uuid4().hex[:8]
        # All requests for an item have one id, so that their answers are the same to the byte, and cheap to compare.
        self._ids = [f"load-{run}-{index}" for index in range(len(items))]
        self._heads = {
            target: [_head(item, id_, target, headers or {}) for item, id_ in zip(items, self._ids, strict=True)]
            for target in targets
        }
        self._connections: set[Connection] = set()

    async def connect(self, target: Target) -> Connection:
        """A new connection.

        Raises:
            OSError: there is none to be had.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.timeout):
            _, connection = await loop.create_connection(
                lambda: Connection(target, self._answered, self._lost),
                target.host,
                target.port,
                ssl=ssl.create_default_context() if target.is_tls else None,
            )
        self._connections.add(connection)
        connection.ended.add_done_callback(lambda _: self._connections.discard(connection))
        return connection

    def send(self, connection: Connection, due: float | None = None) -> None:
        """Sends the next request on a free connection.

        Args:
            due: when it should have been sent; None is now. A latency counts from then.
        """
        now = monotonic()
        due = now if due is None else due
        index = next(self._turn)
        self.tally.delays.append(now - due)
        connection.send(self._heads[connection.target][index] + self._items[index].body, index, due, now)

    def unsent(self, reason: str) -> None:
        """A request was due, and could not be sent."""
        self.tally.lost[reason] += 1

    async def watch(self) -> None:
        """Ends requests that take too long, for ever."""
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, self.timeout))
            overdue = monotonic() - self.timeout
            for connection in tuple(self._connections):
                if connection.sent is not None and connection.sent <= overdue:
                    connection.give_up(f"no answer within {self.timeout:g} s")

    def _answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        tally, now, index = self.tally, connection.free_since, connection.index
        tally.statuses[status] += 1
        wait = 0.0
        if status == 200:
            complaint = self._answers and self._answers.complaint(index, body, self._ids[index])
            if complaint is None:
                tally.latencies.append(now - connection.due)
            else:
                tally.complain(f"{self._items[index].name}: {complaint}")
        else:
            tally.note_error(status, body)
            seconds = header(head, b"retry-after") or b""
            wait = float(seconds) if seconds.isdigit() else 0.0
        if connection.is_usable:
            self.on_free(connection, wait)

    def _lost(self, connection: Connection, reason: str) -> None:
        self.tally.lost[reason] += 1


def _head(item: Item, request_id: str, target: Target, headers: Mapping[str, str]) -> bytes:
    fields = {
        "Host": target.authority,
        "Content-Type": item.content_type,
        "Content-Length": str(len(item.body)),
        "X-Request-Id": request_id,
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {target.path}{item.path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
