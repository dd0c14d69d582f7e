"""The engine worker: one process per device that turns frames into answers.

    socket --> reader --> decode pool --> scheduler --> compute --> socket
               (thread)   (threads)       (batches)     (threads)

Decoding happens per row beside the device, so that a bad row fails alone and the device never waits for a JPEG.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from models.errors import EngineUnavailable, GraftworkError, InputError, OutOfMemory
from service.flight_record import FlightRecord
from service.log import flush_log
from service.messages import (
    Cancel,
    Failure,
    FrameReader,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Predict,
    Report,
    Unload,
    pack,
)
from service.worker.computation import Computation
from service.worker.decoders import Decoders
from service.worker.pending import PendingRequest, PendingRequests, PendingRow
from service.worker.scheduler import Scheduler
from service.worker.servable import Servable, Servables

logger = logging.getLogger(__name__)

REPORT_SECONDS = 1.0
LOAD_AGAIN_SECONDS = 0.5
_RECEIVE_BYTES = 256 << 10
_UndecodedRow: TypeAlias = tuple[PendingRequest, int, bytes]  # a request, which of its rows, and that row's bytes


class Worker:
    """Serves one connection to the API process until it closes.

    Args:
        connection: a connected stream socket.
        servables: what to serve; loads arrive as messages.
        record: where it notes what it has in its hands.
        threads: how many rows are decoded at a time, and how many batches are computed at a time at most.
        max_batch_rows: the largest batch.
        compute_threads: how many batches are computed at a time at most, where that is another number.
    """

    def __init__(
        self,
        connection: socket.socket,
        servables: Servables,
        record: FlightRecord,
        *,
        threads: int,
        max_batch_rows: int,
        compute_threads: int | None = None,
    ) -> None:
        self._connection = connection
        self._servables = servables
        self._record = record
        self._scheduler: Scheduler[PendingRow] = Scheduler(max_batch_rows=max_batch_rows)
        self._decoders: Decoders[_UndecodedRow] = Decoders(threads, self._prepare)
        self._compute_threads = compute_threads or threads
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._requests = PendingRequests()
        self._sending = threading.Lock()
        self._computation = Computation(self._requests, self._scheduler, record, self._fail)
        self._ended = threading.Event()

    def run(self, hello: Hello) -> None:
        """Says hello and serves until the API process closes the connection."""
        has_fleet = self._servables.fleet is not None  # whether the server is ready depends on it
        self._send_all([(hello, b"")], report=has_fleet)
        reader = threading.Thread(target=self._read, name="reader", daemon=True)
        reader.start()
        threading.Thread(target=self._report_regularly, name="report", daemon=True).start()
        computing = [threading.Thread(target=self._serve, args=(number,)) for number in range(1, self._compute_threads)]
        for thread in computing:
            thread.start()
        self._serve(0)
        for thread in (reader, *computing):
            thread.join()
        self._decoders.close()
        self._loader.shutdown(cancel_futures=True)

    # Reader

    def _read(self) -> None:
        frames, buffer = FrameReader(), memoryview(bytearray(_RECEIVE_BYTES))
        try:
            while size := self._connection.recv_into(buffer):
                messages = frames.feed(buffer[:size])
                rows = [row for message, payload in messages for row in self._handle(message, payload)]
                if rows:  # of all requests together: to wake a thread takes longer than to decode a short text
                    self._decoders.put(rows)
                if any(isinstance(message, Cancel) for message, _ in messages):  # perhaps of a request just read
                    self._drop_abandoned()
        except OSError:
            pass
        except Exception:  # such as no more threads for whatever a message starts
            logger.exception("a message cannot be handled; this worker ends, and another one takes over")
        finally:
            self._ended.set()
            self._scheduler.close()
            logger.info("the API process is gone")

    def _drop_abandoned(self) -> None:
        """At once, not when it is their turn: they hold memory, and the API process has let in others in their place."""
        self._scheduler.dropped(self._decoders.discard(lambda item: item[0].abandoned))
        self._scheduler.drop_abandoned()

    def _handle(self, message: Message, payload: bytes) -> Sequence[_UndecodedRow]:
        match message:
            case Predict():
                return self._accept(message, payload)
            case Cancel():
                self._requests.cancel(message.id)
            case Load():
                self._loader.submit(self._load, message)
            case Unload():
                self._loader.submit(self._servables.unload, message.name, message.number)
            case _:
                logger.error("unexpected message %s", type(message).__name__)
        return ()

    def _load(self, message: Load) -> None:
        name, number = message.name, message.number
        try:
            loaded = self._load_when_possible(name, number)
        except EngineUnavailable:
            return  # the worker ends
        except GraftworkError as error:
            reason = error.message.encode(errors="replace").decode()  # it may name a file, whose name may be any bytes
            self._send(LoadFailed(name=name, number=number, reason=reason))
        except BaseException:  # a panic of a library in Rust is no Exception
            logger.exception("loading %s:%d failed", name, number)
            self._send(LoadFailed(name=name, number=number, reason="it cannot be loaded; the log says why"))
        else:
            self._send(Loaded(name=name, number=number, serving=loaded.serving))

    def _load_when_possible(self, name: str, number: int) -> Servable:
        """Loads a version, as soon as whoever computes it is there: that nobody answers says nothing against the version."""
        said = ""
        while True:
            try:
                return self._servables.load(name, number)
            except EngineUnavailable as error:
                if error.message != said:
                    said = error.message
                    logger.warning("%s:%d is not loaded yet: %s", name, number, said)
                while not self._is_fleet_up():
                    if self._ended.is_set():
                        raise
                if self._ended.wait(LOAD_AGAIN_SECONDS):
                    raise

    def _is_fleet_up(self) -> bool:
        fleet = self._servables.fleet
        return fleet is None or fleet.wait_until_up(REPORT_SECONDS)

    def _accept(self, message: Predict, payload: bytes) -> Sequence[_UndecodedRow]:
        try:
            version = self._servables.get(message.name, message.number)
        except GraftworkError as error:
            self._send(Failure(id=message.id, code=error.code, message=error.message))
            return ()
        request = self._requests.add(message, version)
        rows, start = [], 0
        for index, size in enumerate(message.sizes):
            rows.append((request, index, payload[start : start + size]))
            start += size
        return rows

    # Decode pool

    def _prepare(self, thread: int, item: _UndecodedRow) -> None:
        request, index, data = item
        if request.abandoned:
            self._scheduler.dropped(1)
        elif request.isolated:
            self._scheduler.put(PendingRow(request=request, index=index, row=data, group=(request.id, index)))
        else:
            row = self._prepare_row(thread, request, index, data)
            if row is not None:
                self._scheduler.put(row)

    def _prepare_row(self, thread: int, request: PendingRequest, index: int, data: bytes) -> PendingRow | None:
        started = time.monotonic()
        self._record.decoding(thread, request.id, index)
        try:
            prepared = request.version.prepare(data, request.wish.form, truncate=request.wish.truncate)
        except InputError as error:
            self._fail(request, error.code, error.message, index)
            return None
        except MemoryError:
            self._fail(request, OutOfMemory.code, "there is not enough memory for this request now; try again")
            return None
        except BaseException:
            logger.exception("preparing a row failed", extra={"fields": request.log_fields})
            self._fail(request, GraftworkError.code, "the server failed on this request")
            return None
        finally:
            self._record.decoded(thread)
        ready = time.monotonic()
        request.decode_seconds = max(request.decode_seconds, ready - started)
        row, group, length, rows, tokens = prepared
        return PendingRow(
            request=request, index=index, row=row, group=group, length=length, rows=rows, tokens=tokens, ready_at=ready
        )

    # Compute

    def _serve(self, thread: int) -> None:
        try:
            while batch := self._scheduler.take():
                try:
                    is_alone = batch[0].request.isolated
                    answers = (
                        self._try_alone(thread, batch[0]) if is_alone else self._computation.compute(thread, batch)
                    )
                finally:
                    self._scheduler.done(batch)
                self._send_all(answers, report=True)
        except Exception:  # a bug of ours: a worker with fewer threads than it seems to have helps nobody
            logger.exception("a compute thread failed; this worker ends, and another one takes over")
            flush_log()
            os._exit(1)

    def _try_alone(self, thread: int, waiting: PendingRow) -> list[tuple[Message, bytes]]:
        """Prepares and computes a row while nothing else is in hand: if the worker ends now, it is this row that ended it."""
        with self._decoders.paused():
            row = self._prepare_row(0, waiting.request, waiting.index, waiting.row)
            return [] if row is None else self._computation.compute(thread, [row])

    def _fail(self, request: PendingRequest, code: str, message: str, row: int | None = None) -> None:
        if self._requests.end(request):
            self._send(Failure(id=request.id, code=code, message=message, row=row, timings=request.timings))

    # Sending (every thread)

    def _report(self) -> Report:
        return Report(
            batches=self._computation.take_batches(),
            dropped=self._scheduler.take_dropped(),
            waiting=self._scheduler.waiting,
            busy_seconds=self._record.busy_seconds(),
            fleet=() if self._servables.fleet is None else self._servables.fleet.take_report(),
        )

    def _report_regularly(self) -> None:
        while not self._ended.wait(REPORT_SECONDS):
            self._send_all((), report=True)

    def _send(self, message: Message) -> None:
        self._send_all([(message, b"")])

    def _send_all(self, messages: Sequence[tuple[Message, bytes]], *, report: bool = False) -> None:
        parts = [part for message, payload in messages for part in (pack(message, len(payload)), payload)]
        try:
            with self._sending:
                if report:  # made here, so that no batch in it comes after the answers to its rows
                    parts.append(pack(self._report()))
                self._connection.sendall(b"".join(parts))
        except OSError:
            self._scheduler.close()


def serve_socket(path: Path, hello: Hello, servables: Servables, *, threads: int, max_batch_rows: int) -> None:
    """Connects to the API process and serves until it goes away.

    Args:
        path: of the local socket that the API process listens on; the flight record is made beside it.
        hello: who this worker is.
        servables: what to serve; loads arrive as messages.
        threads: for decoding, and for computing where that is done here.
        max_batch_rows: the largest batch.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        computing = threads if servables.fleet is None else servables.fleet.most_in_flight
        record = FlightRecord(
            path.with_name(f"flight-{hello.pid}"),
            decode_threads=threads,
            compute_threads=computing,
            max_batch_rows=max_batch_rows,
        )
        worker = Worker(
            connection, servables, record, threads=threads, max_batch_rows=max_batch_rows, compute_threads=computing
        )
        worker.run(hello)
