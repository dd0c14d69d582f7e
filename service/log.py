"""The log: JSON lines on stderr, written beside the work.

Whoever reads a log may stop reading: a full disk, a closed pipe, a terminal that was paused. None of it may hold up a request,
so lines go to a bounded queue, and a thread writes them, many at a time.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

import orjson

MOST_WAITING = 10_000  # lines; more are dropped, and counted
GATHER_SECONDS = 0.02  # from the first waiting line until all of them are written
FLUSH_SECONDS = 1.0

# A key that got where it does not belong: into a path, an id, a traceback. Its own id stays, so that it can be revoked.
_SECRET = re.compile(r"(gw_[0-9a-f]{8}_)[A-Za-z0-9_-]+")
_SECRET_IN_BYTES = re.compile(_SECRET.pattern.encode())


def redacted(text: str) -> str:
    """The text without the secret of any key."""
    return _SECRET.sub(r"\1...", text)


class JsonLines(logging.Formatter):
    """One JSON object a line, so that nothing a caller sends can forge a record."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._time = ""

    def format(self, record: logging.LogRecord) -> str:
        return self.line(record).decode()

    def line(self, record: logging.LogRecord) -> bytes:
        """The object in ASCII, without a line end, and without the secret of any key."""
        line = self._line(record)
        return _SECRET_IN_BYTES.sub(rb"\1...", line) if b"gw_" in line else line

    def _line(self, record: logging.LogRecord) -> bytes:
        entry: dict[str, object] = {
            "time": self._time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        try:
            line = orjson.dumps(entry, default=str)
        except TypeError:  # a lone surrogate: the name of a file may hold one
            line = b"\x7f"
        if line.isascii() and b"\x7f" not in line:
            return line
        # orjson leaves U+0085, U+2028 and the control codes of terminals as they are: they could end a line, or worse.
        return json.dumps(entry, default=str).replace("\x7f", "\\u007f").encode()

    def _time_of(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._time = second, self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z")
        return self._time


class AccessRecord(logging.LogRecord):
    """A request as a log record, without what takes most of a record's time: which line, thread and process made it.

    Args:
        fields: what is said of the request.
    """

    name = "graftwork.access"

    def __init__(self, fields: Mapping[str, object]) -> None:
        self.__dict__ = {**_ACCESS, "fields": fields, "created": time.time()}


_ACCESS = {  # all that a formatter may ask for
    **dict.fromkeys(("args", "exc_info", "exc_text", "stack_info", "process", "thread"), None),
    **dict.fromkeys(("processName", "threadName", "taskName"), None),
    **dict.fromkeys(("pathname", "filename", "module", "funcName"), "telemetry"),
    **dict.fromkeys(("lineno", "msecs", "relativeCreated"), 0),
    "name": AccessRecord.name,
    "levelno": logging.INFO,
    "levelname": "INFO",
    "msg": "request",
}


class BackgroundHandler(logging.Handler):
    """Writes lines to a file descriptor from a thread of its own; never blocks, never fails.

    Args:
        descriptor: of the file, pipe or terminal.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines_of = JsonLines()
        self._forget_thread()
        os.register_at_fork(after_in_child=self._forget_thread)  # a fork has the object, but not its thread

    def _forget_thread(self) -> None:
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._is_writing = False
        self._wanted = threading.Event()
        self._written = threading.Event()
        self._written.set()
        self._thread: threading.Thread | None = None

    def handle(self, record: logging.LogRecord) -> bool:
        """As its base does, without the lock, which nothing here needs."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._lines_of.line(record)
        except Exception:  # a bad message must not fail whoever logs
            line = b'{"level":"error","logger":"service.log","message":"a record could not be formatted"}'
        if len(self._lines) >= MOST_WAITING:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._is_writing:  # waking the thread for each line would cost more than writing it
            self._is_writing = True
            self._written.clear()
            if self._thread is None and not self._start_thread():
                self._is_writing = False
                self._write_all()
            self._wanted.set()

    def _start_thread(self) -> bool:
        """Whether there is one now: a process may be at its limit of threads, or of memory for them."""
        thread = threading.Thread(target=self._run, name="log", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            time.sleep(GATHER_SECONDS)
            self._is_writing = False  # a line that comes from now on wants the thread again
            self._write_all()
            if not self._is_writing:
                self._written.set()

    def _write_all(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(b'{"level":"warning","logger":"service.log","message":"%d lines were dropped"}' % dropped)
        data = memoryview(b"".join([line + b"\n" for line in lines]))
        with suppress(OSError):  # nobody reads it, or there is no room for it: there is no place to complain
            while data:
                data = data[os.write(self._descriptor, data) :]

    def flush(self) -> None:
        """Waits until everything is written, but not for long: nobody may be reading."""
        if self._thread is not None:
            self._written.wait(FLUSH_SECONDS)


def configure_logging() -> None:
    """JSON lines on stderr for the whole process."""
    # Whoever is started without stderr has none; its number may have gone to another file since.
    handler = BackgroundHandler(os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else sys.stderr.fileno())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("litserve").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def flush_log() -> None:
    """Waits until what was logged is written; for processes that end without the interpreter's own end."""
    for handler in logging.getLogger().handlers:
        handler.flush()
