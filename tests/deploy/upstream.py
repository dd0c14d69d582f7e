"""A server behind nginx that records what reaches it."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from tests.deploy.proxy import Proxy


@dataclass(frozen=True, kw_only=True)
class Received:
    """A request as nginx passed it on, and the number of the connection that it came on."""

    connection: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Upstream:
    """Stands in for the server: records every request, and answers with the sha256 of its body.

    Attributes:
        connections: how many were opened.
        closed: how many came to their end.
        received: every request, in the order of arrival.
        answer: gives the bytes of an answer; none ends the connection instead.
    """

    def __init__(self) -> None:
        self.connections = self.closed = 0
        self.received: list[Received] = []
        self.answer: Callable[[Received], bytes] = digest_of
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):  # the end
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._serve, args=(connection, self.connections)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError):
            while line := stream.readline():
                method, path, _ = line.decode("latin-1").split(" ")
                headers = {name.lower(): value for name, value in http.client.parse_headers(stream).items()}
                body = stream.read(int(headers.get("content-length", "0")))
                request = Received(connection=number, method=method, path=path, headers=headers, body=body)
                self.received.append(request)
                answer = self.answer(request)
                if not answer:
                    break
                connection.sendall(answer)
        self.closed += 1

    def close(self) -> None:
        with suppress(OSError):  # closed before
            self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        self._listening.close()


def answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


def digest_of(request: Received) -> bytes:
    return answer(200, hashlib.sha256(request.body).hexdigest().encode())


Stage = Callable[..., tuple[Proxy, list[Upstream]]]
