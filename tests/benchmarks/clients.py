"""Closed-loop clients on keep-alive connections: each sends its next request when the last one is answered.

One thread of a process of its own drives all of them, at little cost, so that what is measured is the server, and not, on the
same cores, whoever asks.
"""

from __future__ import annotations

import itertools
import multiprocessing
import selectors
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.benchmarks.workload import Workload

TIMEOUT_SECONDS = 60.0


class Clients:
    """What asks a server.

    Args:
        port: of the server, on the loopback address.
        workload: what is sent, one body after the other.
        paths: asked in turn.
        headers: of every request, beside the usual ones.
    """

    def __init__(
        self, port: int, workload: Workload, paths: Sequence[str], headers: Mapping[str, str] | None = None
    ) -> None:
        self._port = port
        fields = {"Host": "localhost", "Content-Type": workload.content_type, **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._heads = [f"POST {path} HTTP/1.1\r\n{lines}".encode() for path in paths]
        self._bodies = workload.bodies
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def run(self, concurrency: int, seconds: float, *, drain: bool = False) -> tuple[float, list[float]]:
        """Requests a second, and every request's latency in seconds.

        Args:
            concurrency: how many clients.
            seconds: for which they ask.
            drain: those that were asked by then are waited for, and count; for requests that take long.

        Raises:
            RuntimeError: an answer other than 200.
        """
        return self._pool.submit(ask, self._port, self._heads, self._bodies, concurrency, seconds, drain).result()

    def close(self) -> None:
        self._pool.shutdown()


def ask(
    port: int, heads: Sequence[bytes], bodies: Sequence[bytes], concurrency: int, seconds: float, drain: bool = False
) -> tuple[float, list[float]]:
    """See `Clients`; runs in a process of its own."""
    requests = _requests(heads, bodies)
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector:
        sockets = [socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) for _ in range(concurrency)]
        started = time.perf_counter()
        for connection in sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(connection, selectors.EVENT_READ, _Pending(next(requests), connection))
        while (now := time.perf_counter()) < started + seconds or (drain and selector.get_map()):
            events = selector.select(TIMEOUT_SECONDS)
            if not events:
                raise RuntimeError(f"no answer within {TIMEOUT_SECONDS:g} seconds")
            for key, _ in events:
                if (latency := key.data.receive()) is not None:
                    latencies.append(latency)
                    if drain and time.perf_counter() >= started + seconds:
                        selector.unregister(key.fileobj)
                    else:
                        key.data.send(next(requests))
        for connection in sockets:
            connection.close()
    return len(latencies) / (now - started), latencies


def _requests(heads: Sequence[bytes], bodies: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    tails = [b"Content-Length: %d\r\n\r\n" % len(body) for body in bodies]
    pairs = zip(itertools.cycle(heads), itertools.cycle(zip(tails, bodies, strict=True)))
    return ((head + tail, body) for head, (tail, body) in pairs)


class _Pending:
    """A connection with a request under way."""

    def __init__(self, request: tuple[bytes, bytes], connection: socket.socket) -> None:
        self._connection = connection
        self.send(request)

    def send(self, request: tuple[bytes, bytes]) -> None:
        self._answer, self._end = b"", 0
        self._sent_at = time.perf_counter()
        self._connection.sendall(b"".join(request))

    def receive(self) -> float | None:
        """The latency, once the answer is whole."""
        data = self._connection.recv(1 << 16)
        if not data:
            raise RuntimeError(f"the server closed a connection: {self._answer[:200]!r}")
        self._answer += data
        if not self._end:
            head, blank, _ = self._answer.partition(b"\r\n\r\n")
            if not blank:
                return None
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(self._answer[:500].decode(errors="replace"))
            (length,) = (line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            self._end = len(head) + 4 + int(length)
        return None if len(self._answer) < self._end else time.perf_counter() - self._sent_at
