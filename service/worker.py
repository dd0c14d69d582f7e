"""The engine worker: one process per device that turns frames into answers.

    socket --> reader --> decode pool --> scheduler --> compute --> socket
               (thread)   (threads)       (batches)     (main thread)

Decoding happens per row beside the device, so that a bad row fails alone and the device never waits for a JPEG.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import orjson
import torch

from models.backbone import Modality
from models.batch import shape_bucket
from models.errors import GraftworkError, InputError, InvalidUtf8
from models.features import FeatureKind
from models.head import logits_by_head
from models.preprocessor import RawItem
from service.messages import (
    PREFIX,
    Answer,
    Cancel,
    Failure,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Predict,
    Unload,
    pack,
    unpack,
)
from service.pending import PendingRequest, PendingRow
from service.registry import Registry
from service.scheduler import Scheduler

logger = logging.getLogger(__name__)


class Worker:
    """Serves one connection to the API process until it closes.

    Args:
        connection: a connected stream socket.
        registry: what to serve; loads arrive as messages.
        decode_threads: how many rows are decoded at a time.
        max_batch_rows: the largest batch.
    """

    def __init__(
        self, connection: socket.socket, registry: Registry, *, decode_threads: int, max_batch_rows: int
    ) -> None:
        self._connection = connection
        self._registry = registry
        self._scheduler: Scheduler[PendingRow] = Scheduler(max_batch_rows=max_batch_rows)
        self._decoders = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._requests: dict[int, PendingRequest] = {}
        self._lock = threading.Lock()  # guards _requests, every PendingRequest and _batches
        self._sending = threading.Lock()
        self._batches: list[tuple[str, int]] = []

    def run(self, hello: Hello) -> None:
        """Says hello and serves until the API process closes the connection."""
        self._send(hello)
        reader = threading.Thread(target=self._read, name="reader", daemon=True)
        reader.start()
        while batch := self._scheduler.take():
            self._compute(batch)
        reader.join()
        self._decoders.shutdown(cancel_futures=True)
        self._loader.shutdown(cancel_futures=True)

    # Reader

    def _read(self) -> None:
        try:
            with self._connection.makefile("rb") as stream:
                while True:
                    header_size, payload_size = PREFIX.unpack(_read_exactly(stream, PREFIX.size))
                    message = unpack(_read_exactly(stream, header_size))
                    self._handle(message, _read_exactly(stream, payload_size))
        except (OSError, EOFError):
            logger.info("the API process is gone")
        finally:
            self._scheduler.close()

    def _handle(self, message: Message, payload: bytes) -> None:
        match message:
            case Predict():
                self._accept(message, payload)
            case Cancel():
                with self._lock:
                    request = self._requests.pop(message.id, None)
                    if request is not None:
                        request.done = True
            case Load():
                self._loader.submit(self._load, message)
            case Unload():
                self._loader.submit(self._registry.unload, message.name, message.number)
            case _:
                logger.error("unexpected message %r", message.kind)

    def _load(self, message: Load) -> None:
        name, number = message.name, message.number
        try:
            self._registry.load(name, number)
        except GraftworkError as error:
            reason = error.message.encode(errors="replace").decode()  # it may name a file, whose name may be any bytes
            self._send(LoadFailed(name=name, number=number, reason=reason))
        except Exception:
            logger.exception("loading %s:%d failed", name, number)
            self._send(LoadFailed(name=name, number=number, reason="it cannot be loaded; the log says why"))
        else:
            self._send(Loaded(name=name, number=number))

    def _accept(self, message: Predict, payload: bytes) -> None:
        try:
            version = self._registry.get(message.name, message.number)
        except GraftworkError as error:
            self._send(Failure(id=message.id, code=error.code, message=error.message))
            return
        count = len(message.sizes)
        request = PendingRequest(
            id=message.id,
            version=version,
            top_k=message.top_k,
            truncate=message.truncate,
            predictions=[None] * count,
            missing=count,
        )
        with self._lock:
            self._requests[message.id] = request
        start = 0
        for index, size in enumerate(message.sizes):
            self._decoders.submit(self._prepare, request, index, payload[start : start + size])
            start += size

    # Decode pool

    def _prepare(self, request: PendingRequest, index: int, data: bytes) -> None:
        if request.done:
            return
        started = time.monotonic()
        version = request.version
        try:
            item = _raw_item(data, version.manifest.modality)
            row = version.predictor.preprocessor.prepare(item, truncate=request.truncate)
        except InputError as error:
            where = f"instance {index}: " if len(request.predictions) > 1 else ""
            self._fail(request, error.code, where + error.message)
            return
        except Exception:
            logger.exception("preparing a row failed")
            self._fail(request, GraftworkError.code, "the server failed on this request")
            return
        seconds = time.monotonic() - started
        with self._lock:
            request.decode_seconds = max(request.decode_seconds, seconds)
        group = (version.backbone, version.predictor.engine.identity, FeatureKind.POOLED, shape_bucket(row))
        self._scheduler.put(PendingRow(request=request, index=index, row=row, group=group))

    # Compute (main thread)

    def _compute(self, batch: Sequence[PendingRow]) -> None:
        started = time.monotonic()
        first = batch[0].request.version
        try:
            rows = first.predictor.preprocessor.collate([waiting.row for waiting in batch])
            features_BD = first.predictor.engine.features(rows, FeatureKind.POOLED).values
            if not features_BD.isfinite().all():
                raise FloatingPointError("the backbone gave features that are not finite")  # JSON would say null
            logits = logits_by_head(features_BD, [waiting.request.version.predictor.head for waiting in batch])
            predictions = [waiting.prediction(logits_C) for waiting, logits_C in zip(batch, logits, strict=True)]
        except Exception:
            if len(batch) > 1:  # one bad row must not fail its batch mates
                for waiting in batch:
                    self._compute([waiting])
                return
            logger.exception("computing a row failed")
            self._fail(batch[0].request, GraftworkError.code, "the server failed on this request")
            return
        seconds = time.monotonic() - started
        with self._lock:
            self._batches.append((first.backbone, len(batch)))
        for waiting, prediction in zip(batch, predictions, strict=True):
            self._complete(waiting, prediction, queue_seconds=started - waiting.ready_at, compute_seconds=seconds)

    def _complete(
        self, waiting: PendingRow, prediction: dict[str, object], *, queue_seconds: float, compute_seconds: float
    ) -> None:
        request = waiting.request
        with self._lock:
            request.predictions[waiting.index] = prediction
            request.missing -= 1
            request.queue_seconds = max(request.queue_seconds, queue_seconds)
            request.compute_seconds = max(request.compute_seconds, compute_seconds)
            if request.missing or request.done:
                return
            request.done = True
            del self._requests[request.id]
            batches, self._batches = self._batches, []
        answer = Answer(id=request.id, timings=request.timings, batches=batches, waiting=self._scheduler.waiting)
        self._send(answer, orjson.dumps(request.predictions))

    def _fail(self, request: PendingRequest, code: str, message: str) -> None:
        with self._lock:
            if request.done:
                return
            request.done = True
            del self._requests[request.id]
            batches, self._batches = self._batches, []
        failure = Failure(
            id=request.id,
            code=code,
            message=message,
            timings=request.timings,
            batches=batches,
            waiting=self._scheduler.waiting,
        )
        self._send(failure)

    def _send(self, message: Message, payload: bytes = b"") -> None:
        try:
            with self._sending:
                self._connection.sendall(pack(message, payload))
        except OSError:
            self._scheduler.close()


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _raw_item(data: bytes, modality: Modality) -> RawItem:
    if modality is Modality.IMAGE:
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidUtf8("the text is not UTF-8") from None


def serve_socket(
    path: str, hello: Hello, open_registry: Callable[[], Registry], *, threads: int, max_batch_rows: int
) -> None:
    """Connects to the API process and serves until it goes away.

    Args:
        path: of the local socket that the API process listens on.
        hello: who this worker is.
        open_registry: called once connected.
        threads: for decoding, and as many for torch on the CPU.
        max_batch_rows: the largest batch.
    """
    torch.set_num_threads(threads)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        Worker(connection, open_registry(), decode_threads=threads, max_batch_rows=max_batch_rows).run(hello)
