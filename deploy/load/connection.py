"""One connection of a client to a server, as cheap as one can be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A server.

    Attributes:
        path: before that of each request; empty for most.
    """

    host: str
    port: int
    is_tls: bool = False
    path: str = ""

    @property
    def authority(self) -> str:
        """As the header Host has it: an address of IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Connection(asyncio.Protocol):
    """Sends one request at a time, and says what came of it.

    It reads HTTP/1.1 answers with a Content-Length, whole or in pieces, and nothing else.

    Args:
        target: whom it leads to.
        on_answer: called with the connection, a status, the head and the body.
        on_loss: called with the connection and a reason, where a request gets no whole answer.

    Attributes:
        index, due: of the request that is under way, for whoever sent it.
        sent: when that was; None where none is under way.
        free_since: when the last answer was there.
        ended: done when the connection is no more.
    """

    def __init__(
        self,
        target: Target,
        on_answer: Callable[[Connection, int, bytes, bytes], None],
        on_loss: Callable[[Connection, str], None],
    ) -> None:
        self.target = target
        self._on_answer = on_answer
        self._on_loss = on_loss
        self._arrived = b""
        self._end = 0  # of the answer that is arriving, as far as it is known
        self._head_end = 0
        self._reason = "the connection was closed"
        self.index, self.due = 0, 0.0
        self.sent: float | None = None
        self.free_since = monotonic()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is none by its class

    @property
    def is_usable(self) -> bool:
        return not self._transport.is_closing()

    def send(self, data: bytes, index: int, due: float, now: float) -> None:
        """Sends a request on a free connection."""
        self.index, self.due, self.sent = index, due, now
        self._transport.write(data)

    def close(self) -> None:
        """Closes it; what is under way is lost."""
        self._transport.close()

    def give_up(self, reason: str) -> None:
        """Ends the request that is under way, and the connection with it."""
        self._reason = reason
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.sent is None:
            self.give_up("an answer that nobody asked for")
            return
        if self._arrived:
            data = self._arrived + data
        self._arrived = data
        if not self._end and not self._read_head(data):
            return
        if len(data) < self._end:
            return
        if len(data) > self._end:
            self.give_up("more than one answer")
            return
        head, body, status = data[: self._head_end], data[self._head_end : self._end], int(data[9:12])
        self._arrived, self._end, self.sent, self.free_since = b"", 0, None, monotonic()
        if header(head, b"connection") == b"close":
            self._transport.close()
        self._on_answer(self, status, head, body)

    def _read_head(self, data: bytes) -> bool:
        """Whether the head is there in full; it says where the answer ends."""
        blank = data.find(b"\r\n\r\n")
        if blank < 0:
            return False
        length = header(data[: blank + 2], b"content-length")
        if not data.startswith(b"HTTP/1.1 ") or length is None or not length.isdigit():
            self.give_up("not HTTP/1.1 with a Content-Length")
            return False
        self._head_end = blank + 4
        self._end = self._head_end + int(length)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent is not None:
            self.sent = None
            self._on_loss(self, self._reason)
        self.ended.set_result(None)


def header(head: bytes, name: bytes) -> bytes | None:
    """The value of a header by its name in lower case, in lower case; nothing where there is none."""
    lower = head.lower()
    start = lower.find(b"\r\n%s:" % name)
    if start < 0:
        return None
    start += len(name) + 3
    end = lower.find(b"\r\n", start)
    return lower[start : end if end >= 0 else None].strip()
