"""One request and its response."""

from __future__ import annotations

from typing import cast

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent, HTTPResponseBodyEvent, HTTPResponseStartEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from service.http.scope import REFUSAL

_CLOSE = (b"connection", b"close")


class Exchange(RequestResponseCycle):
    """uvicorn's, which knows neither requests that break off nor answers that come early, and writes an answer in two parts."""

    _start: HTTPResponseStartEvent | None = None  # held back until there is something of the body

    async def receive(self) -> ASGIReceiveEvent:
        """Tells the handler of a request that is refused while its body is read to stop; it can still be answered."""
        if REFUSAL not in self.scope:
            if self._has_whole_body():
                body, self.body = bytes(self.body), bytearray()
                self.message_event.clear()
                self.flow.resume_reading()
                return {"type": "http.request", "body": body, "more_body": False}
            message = await super().receive()
            if not message.get("more_body"):
                self.flow.resume_reading()  # its last piece may have stopped it, and it is by reading that a client is seen to leave
            if REFUSAL not in self.scope:
                return message
        return {"type": "http.disconnect"}

    def _has_whole_body(self) -> bool:
        """As most requests have when their handler asks for it: nothing is to be waited for."""
        is_open = not self.disconnected and not self.response_complete and not self.waiting_for_100_continue
        return is_open and not self.more_body and self.message_event.is_set()

    async def send(self, message: ASGISendEvent) -> None:
        """Sends head and body together: each write is a system call, and often a packet.

        Says ``Connection: close`` where the answer begins before the request has ended: the rest is not read.
        """
        if message["type"] == "http.response.start" and not self.response_started:
            self._start = message
            return
        start, self._start = self._start, None
        if start is None:
            await super().send(message)
            return
        if self.more_body:
            self.keep_alive = False
        headers = [*self.default_headers, *start.get("headers", ())]
        body = cast(HTTPResponseBodyEvent, message).get("body", b"")
        is_whole = not message.get("more_body", False) and (b"content-length", b"%d" % len(body)) in headers
        if is_whole and self.scope["method"] != "HEAD" and not self.disconnected and not self.flow.write_paused:
            self._write(start["status"], headers, body)
        else:
            await super().send(start)
            await super().send(message)

    def _write(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if _CLOSE in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append(_CLOSE)
        lines = [STATUS_LINE[status], *[b"%b: %b\r\n" % header for header in headers], b"\r\n"]
        head = b"".join(lines)
        if not head.count(b"\r") == head.count(b"\n") == len(lines):
            raise RuntimeError("a header of the response has a line end in it")
        self.response_started = True
        self.waiting_for_100_continue = False
        self.transport.write(head + body)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
