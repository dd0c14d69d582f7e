"""One keep-alive connection of the load generator, as cheap as one can be that checks every answer."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from time import monotonic
from typing import cast

import orjson

from tests.faults.request import Request
from tests.faults.tally import HUNG_UP, LOST, WRONG, Tally


class ClientConnection(asyncio.Protocol):
    """Sends one request at a time and says how it ended.

    It reads HTTP/1.1 answers with a Content-Length, whole or in pieces, and nothing else.

    Args:
        tally: where the ends are counted.
        on_free: called when a request was answered and the connection can take the next one.
        patience: seconds that an answer may take until the request counts as lost.

    Attributes:
        ended: done when the connection is no more.
        free_since: when the last answer was there.
    """

    def __init__(self, tally: Tally, on_free: Callable[[ClientConnection], None], *, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._tally = tally
        self._on_free = on_free
        self._patience = patience
        self._request: Request | None = None
        self._due = self._sent = 0.0
        self._arrived = b""
        self._expected_bytes = 0  # of the answer that is arriving, as far as they are known
        self._hanging_up = False
        self._out_of_patience = False
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.free_since = monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        # One timer a connection, not a request: it looks when an answer might be overdue, and then again.
        self._watch = self._loop.call_later(self._patience, self._look_at_the_clock)

    @property
    def usable(self) -> bool:
        return not self._transport.is_closing()

    def ask(self, request: Request, due: float | None = None) -> None:
        """Sends a request on a free connection.

        Args:
            request: what to send.
            due: when it should have been sent; None is now.
        """
        assert self._request is None
        self._request = request
        self._sent = now = monotonic()
        self._due = now if due is None else due
        self._tally.count_sent(now)
        self._transport.write(request.data)
        if request.hang_up_after is not None:
            if request.hang_up_after > 0:
                self._loop.call_later(request.hang_up_after, self._hang_up, request)
            else:
                self._hang_up(request)

    def close(self) -> None:
        """Closes once all is sent."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        request = self._request
        if request is None:
            self._tally.unasked += 1
            self._transport.abort()
            return
        if self._arrived:
            data = self._arrived + data
        self._arrived = data
        if len(data) < self._expected_bytes:
            return
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = data[: head_end + 2]
        names = head.lower()  # names of headers are found in any case, their values are read as they are
        try:
            if not names.startswith(b"http/1.1 "):
                raise ValueError("not HTTP/1.1")
            status = int(data[9:12])
            self._expected_bytes = head_end + 4 + int(_header(head, names, b"content-length") or b"none")
        except ValueError:
            self._lose("not understood")
            self._transport.abort()
            return
        if len(data) < self._expected_bytes:
            return
        body = data[head_end + 4 : self._expected_bytes]
        now = monotonic()
        end = self._check(request, status, head, names, body, now)
        self._tally.count_end(end, self._due, self._sent, now)
        too_much = len(data) > self._expected_bytes
        if too_much:
            self._tally.unasked += 1
        self._request, self._arrived, self._expected_bytes, self.free_since = None, b"", 0, now
        if too_much or b"close" in (_header(head, names, b"connection") or b"").lower():
            self._transport.close()
        elif self.usable:
            self._on_free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._watch.cancel()
        if self._request is not None:
            if self._hanging_up:
                self._tally.count_end(HUNG_UP, self._due, self._sent, monotonic())
                self._request = None
            elif self._out_of_patience:
                self._lose("unanswered")
            else:
                self._lose("cut short" if self._arrived else "reset")
        self.ended.set_result(None)

    def _check(self, request: Request, status: int, head: bytes, names: bytes, body: bytes, now: float) -> int:
        """How an answer counts: its status, or WRONG."""
        tally = self._tally
        if request.id:
            carried = _header(head, names, b"x-request-id")
            if carried is None and status != 200:
                tally.without_request_id += 1
            elif carried != request.id:
                tally.note("wrong", request.id, now, self._arrived)
                return WRONG
        if status == 200:
            if request.labels is None or _predicts(body, request):
                return 200
            tally.note("wrong", request.id, now, self._arrived)
            return WRONG
        if status in (429, 503):
            seconds = _header(head, names, b"retry-after") or b""
            if not (seconds.isdigit() and int(seconds) >= 1):
                tally.without_retry_after += 1
        code = _error_code(body)
        if code is not None:
            tally.codes[code] += 1
        return status

    def _lose(self, why: str) -> None:
        assert self._request is not None
        now = monotonic()
        self._tally.losses[why] += 1
        self._tally.note(why, self._request.id, now, self._arrived)
        self._tally.count_end(LOST, self._due, self._sent, now)
        self._request = None

    def _hang_up(self, request: Request) -> None:
        if self._request is request:
            self._hanging_up = True
            self._transport.close()  # not abort: the request itself must go out

    def _look_at_the_clock(self) -> None:
        left = self._patience
        if self._request is not None:
            left += self._sent - monotonic()
            if left <= 0:
                self._out_of_patience = True
                self._transport.abort()
                return
        self._watch = self._loop.call_later(left, self._look_at_the_clock)


async def connect(
    port: int, tally: Tally, on_free: Callable[[ClientConnection], None], *, patience: float
) -> ClientConnection:
    """A new connection to a port of this machine.

    Raises:
        OSError: there is none to be had; ``why_unsent`` names the reason.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(patience):
        _, connection = await loop.create_connection(
            lambda: ClientConnection(tally, on_free, patience=patience), "127.0.0.1", port
        )
    return connection


def why_unsent(error: OSError) -> str:
    """The reason in ``Tally.unsent``: a name of ``errno``, such as EMFILE, is a limit of this side."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, TimeoutError):
        return "connect timeout"
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def _header(head: bytes, names: bytes, name: bytes) -> bytes | None:
    """The value of a header; ``names`` is the head in lower case, and both end with the last header's line end."""
    start = names.find(b"\r\n%s:" % name)
    if start < 0:
        return None
    start += len(name) + 3
    return head[start : head.index(b"\r\n", start)].strip()


def _predicts(body: bytes, request: Request) -> bool:
    """Whether a 200's body has this request's labels in order, of the version that it names, and its id if it has any."""
    try:
        answer = orjson.loads(body)
        labels = [prediction["label"] for prediction in answer["predictions"]]
        versions = {prediction["computed_by"] for prediction in answer["predictions"] if "computed_by" in prediction}
        if versions - {answer.get("version")}:
            return False
        return labels == request.labels and (not request.id or answer["request_id"].encode() == request.id)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _error_code(body: bytes) -> str | None:
    try:
        code = orjson.loads(body)["code"]
    except (ValueError, KeyError, TypeError):
        return None
    return code if isinstance(code, str) else None
