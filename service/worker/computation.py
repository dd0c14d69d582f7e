"""Batches become predictions, and where a batch cannot, its parts do."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import orjson

from models.errors import DeadlineExceeded, DeviceFailed, EngineUnavailable, GraftworkError, OutOfMemory
from service.flight_record import FlightRecord
from service.log import flush_log
from service.messages import Batch, Message
from service.worker.pending import PendingRequest, PendingRequests, PendingRow
from service.worker.scheduler import Scheduler

logger = logging.getLogger(__name__)


class Computation:
    """Computes batches, and says which requests are complete with them. Safe to use from several threads.

    Args:
        requests: told of what was computed.
        scheduler: told of batches that did not fit.
        record: where it notes what is in hand.
        fail: called with a request that cannot be answered, a code and a message.
    """

    def __init__(
        self,
        requests: PendingRequests,
        scheduler: Scheduler[PendingRow],
        record: FlightRecord,
        fail: Callable[[PendingRequest, str, str], None],
    ) -> None:
        self._requests = requests
        self._scheduler = scheduler
        self._record = record
        self._fail = fail
        self._batches: deque[Batch] = deque()

    def compute(self, thread: int, batch: Sequence[PendingRow]) -> list[tuple[Message, bytes]]:
        """Computes rows; returns the answers that are complete with them."""
        started = time.monotonic()
        version = batch[0].request.version
        fits = True
        self._record.computing(((waiting.request.id, waiting.index) for waiting in batch), thread)
        try:
            results = [orjson.dumps(each) if isinstance(each, dict) else each for each in version.compute(batch)]
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results for {len(batch)} rows")
        except DeviceFailed:
            logger.exception("the device failed; this worker ends, and another one takes over")
            flush_log()
            os._exit(1)
        except (EngineUnavailable, DeadlineExceeded) as error:  # the parts of the batch would fare no better
            for request in {waiting.request for waiting in batch}:
                self._fail(request, error.code, error.message)
            return []
        except MemoryError:
            results, fits = [], False
        except BaseException:
            results = []
            if len(batch) == 1:
                logger.exception("computing a row failed", extra={"fields": batch[0].request.log_fields})
                self._fail(batch[0].request, GraftworkError.code, "the server failed on this request")
                return []
        finally:
            self._record.computed(thread)
        # Not where they are caught: the error's traceback holds all that the batch has allocated.
        if not fits:
            return self._compute_less(thread, batch)
        if not results:  # one bad row must not fail its batch mates
            return self._compute_parts(thread, [[waiting] for waiting in batch])
        seconds = time.monotonic() - started
        versions = _versions(batch)
        self._batches.append(Batch(backbone=version.backbone, rows=len(batch), seconds=seconds, versions=versions))
        complete = self._requests.complete(batch, results, started=started, seconds=seconds)
        return [request.answer() for request in complete]

    def _compute_less(self, thread: int, batch: Sequence[PendingRow]) -> list[tuple[Message, bytes]]:
        """Computes both halves of a batch that did not fit; a row that does not fit alone fails."""
        if len(batch) == 1:
            logger.warning("there is not enough memory for a row alone", extra={"fields": batch[0].request.log_fields})
            self._fail(batch[0].request, OutOfMemory.code, "the device has no memory for this now; try again")
            return []
        self._scheduler.too_large(batch)
        half = len(batch) // 2
        return self._compute_parts(thread, [batch[:half], batch[half:]])

    def _compute_parts(self, thread: int, parts: Sequence[Sequence[PendingRow]]) -> list[tuple[Message, bytes]]:
        """Computes parts of a batch one after the other, but for rows that nobody waits for any more by then."""
        answers = []
        for part in parts:
            wanted = [waiting for waiting in part if not waiting.abandoned]
            self._scheduler.dropped(len(part) - len(wanted))
            if wanted:
                answers += self.compute(thread, wanted)
        return answers

    def take_batches(self) -> Sequence[Batch]:
        """Those computed since this was asked last."""
        batches: list[Batch] = []
        with suppress(IndexError):  # two threads may ask
            while True:
                batches.append(self._batches.popleft())
        return batches


def _versions(batch: Sequence[PendingRow]) -> Sequence[tuple[str, int, int]]:
    rows: dict[tuple[str, int], int] = {}
    for waiting in batch:
        key = waiting.request.key
        rows[key] = rows.get(key, 0) + 1
    return [(name, number, count) for (name, number), count in rows.items()]
