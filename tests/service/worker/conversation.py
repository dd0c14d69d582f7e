"""A worker in a thread, and a test in the place of the API process."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from service.flight_record import FlightRecord
from service.messages import (
    PREFIX,
    Answer,
    Batch,
    Failure,
    Hello,
    Load,
    LoadFailed,
    Message,
    Predict,
    Report,
    pack,
    unpack,
)
from service.worker.servable import Servables
from service.worker.worker import Worker
from tests.processes import wait_for
from tests.service.echo_engine import EchoEngine, EchoRegistry, echo_version

HELLO = Hello(worker=3, pid=1, device="cpu")
PLAIN, OTHER = 1.0, -2.5  # the weights of two heads on one backbone


class Conversation:
    """A worker in a thread, and the API process's end of its connection.

    Attributes:
        record: the path of its flight record.
        reports: those that came while something else was waited for.
    """

    def __init__(self, servables: Servables, *, max_batch_rows: int = 8) -> None:
        self.socket, self._theirs = socket.socketpair()
        self.socket.settimeout(30)
        self._directory = tempfile.mkdtemp(prefix="gw-test-")
        self.record = Path(self._directory, "flight-1")
        record = FlightRecord(self.record, decode_threads=4, compute_threads=4, max_batch_rows=max_batch_rows)
        self.worker = Worker(self._theirs, servables, record, threads=4, max_batch_rows=max_batch_rows)
        self.thread = threading.Thread(target=self.worker.run, args=(HELLO,))
        self.thread.start()
        self._stream = self.socket.makefile("rb")
        self._ids = itertools.count()
        self.reports: list[Report] = []
        assert self.receive() == (HELLO, None)

    def send(self, message: Message, payload: bytes = b"") -> None:
        self.socket.sendall(pack(message, len(payload)) + payload)

    def ask(self, *rows: str | bytes, name: str = "plain", seconds: float = 60.0, **options: Any) -> int:
        """Sends a request and returns its id.

        Args:
            seconds: until its deadline.
        """
        items = [row.encode() if isinstance(row, str) else row for row in rows]
        number, deadline = next(self._ids), time.monotonic() + seconds
        sizes = [len(item) for item in items]
        self.send(Predict(id=number, name=name, number=1, sizes=sizes, deadline=deadline, **options), b"".join(items))
        return number

    def receive(self) -> tuple[Message, Any]:
        """The next message that is no report."""
        while True:
            message, payload = self._next()
            if not isinstance(message, Report):
                return message, json.loads(payload) if payload else None
            self.reports.append(message)

    def _next(self) -> tuple[Message, bytes]:
        header_size, payload_size = PREFIX.unpack(self._stream.read(PREFIX.size))
        return unpack(self._stream.read(header_size)), self._stream.read(payload_size)

    def report(self) -> Report:
        """The next report; whatever else comes is an error."""
        message, _ = self._next()
        assert isinstance(message, Report), message
        return message

    def answer(self) -> tuple[Answer, list[dict[str, Any]]]:
        message, payload = self.receive()
        assert isinstance(message, Answer), message
        return message, payload

    def failure(self) -> Failure:
        message, _ = self.receive()
        assert isinstance(message, Failure), message
        return message

    def outcomes(self, count: int) -> dict[int, Any]:
        """So many answers and failures, by the id of their request: its predictions, or the failure's code."""
        found: dict[int, Any] = {}
        for _ in range(count):
            message, payload = self.receive()
            assert isinstance(message, (Answer, Failure)), message
            found[message.id] = payload if isinstance(message, Answer) else message.code
        assert len(found) == count
        return found

    def all_reports(self) -> list[Report]:
        """Every report until now: a refused load comes back after them."""
        self.send(Load(name="unheard-of", number=1))
        assert isinstance(self.receive()[0], LoadFailed)
        return self.reports

    def batches(self) -> list[Batch]:
        return [batch for report in self.all_reports() for batch in report.batches]

    def dropped(self) -> int:
        return sum(report.dropped for report in self.all_reports())

    def wait_for_rows(self, rows: int) -> None:
        """Until so many rows are decoded and wait for the device."""
        wait_for(lambda: self.worker._scheduler.waiting >= rows, 30, pause=0.001)

    def end(self) -> None:
        self._stream.close()
        self.socket.close()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self._theirs.close()
        shutil.rmtree(self._directory)


class EchoConversation(Conversation):
    """With a worker of two versions on the echo engine."""

    def __init__(self, *, max_batch_rows: int = 8) -> None:
        self.engine = EchoEngine()
        self.registry = EchoRegistry(
            echo_version(self.engine, "plain", weight=PLAIN), echo_version(self.engine, "other", weight=OTHER)
        )
        super().__init__(self.registry, max_batch_rows=max_batch_rows)

    def close_the_gate(self) -> None:
        """Occupies the device with a row of its own; what is asked from now on waits."""
        self.engine.gate.clear()
        self.ask("0")
        wait_for(lambda: self.engine.batches, 30)

    def end(self) -> None:
        self.engine.gate.set()
        super().end()
