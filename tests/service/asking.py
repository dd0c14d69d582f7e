"""Clients that ask a real server all the while, or at one moment."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.processes import wait_for
from tests.server_process import Reply, ServerProcess


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request and its reply, or nothing where the server did not take it."""

    id: str
    text: str
    reply: Reply | None

    @property
    def status(self) -> int | None:
        return None if self.reply is None else self.reply.status


@contextmanager
def load(server: ServerProcess, model: str, *, threads: int) -> Iterator[list[Asked]]:
    """Asks all the while, from several threads; the list is complete at the end."""
    stop = threading.Event()
    asked: list[Asked] = []

    def ask(thread: int) -> None:
        number = 0
        while not stop.wait(0.01):
            number += 1
            name, text = f"load-{thread}-{number}", f"question {thread} {number}"
            try:
                reply = server.predict(model, [text], **{"x-request-id": name})
            except (OSError, http.client.HTTPException):
                reply = None
            asked.append(Asked(id=name, text=text, reply=reply))

    with ThreadPoolExecutor(threads) as pool:
        asking = [pool.submit(ask, thread) for thread in range(threads)]
        try:
            yield asked
        finally:
            stop.set()
    for future in asking:
        future.result()


@contextmanager
def requests_in_flight(
    server: ServerProcess, count: int, workers: Sequence[int], *, others: int = 0
) -> Iterator[list[Future[Reply]]]:
    """Requests that are accepted, as are so many others, and cannot be answered because the workers are stopped."""
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(count) as threads:
        asked = [
            threads.submit(server.predict, "letters", [f"in flight {number}"], **{"x-request-id": f"flight-{number}"})
            for number in range(count)
        ]
        wait_for(lambda: in_flight(server) == count + others, 10, server.text)
        yield asked


def in_flight(server: ServerProcess) -> float:
    return server.metric("graftwork_in_flight_rows").get((), 0)
