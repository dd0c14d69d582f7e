"""Who changed what, and when: ``<root>/.audit.jsonl``, one JSON object a line, which is only ever added to.

Each line says ``when`` (UTC), ``who``, ``what``, ``target``, ``result`` (``ok``, or the error's code) and ``request_id``
(null on the command line).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from models import storage
from models.errors import GraftworkError

logger = logging.getLogger(__name__)

FILE_NAME = ".audit.jsonl"
OK = "ok"

_MOST_CHARACTERS = 256  # of a field: a line is written in one piece
_MODE = 0o600


@dataclass(kw_only=True)
class Action:
    """Something that is being done; a context manager, which notes how it ends.

    Attributes:
        target: what it is done to; may be set once that is known.
        result: that it came to its end, or the code of the error that it raised.
    """

    target: str = ""
    result: str = "internal"

    def __enter__(self) -> Action:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            self.result = OK
        elif isinstance(error, GraftworkError):
            self.result = error.code


class AuditLog:
    """The audit log of one repository.

    Args:
        root: of the repository.
    """

    def __init__(self, root: Path) -> None:
        self._file = root / FILE_NAME

    @contextmanager
    def recording(self, who: str, what: str, *, target: str = "", request_id: str | None = None) -> Iterator[Action]:
        """Records what the block does: that it came to its end, or the code of the error that it raised.

        An action that cannot be recorded is not undone; that is an error in the log.

        Args:
            who: ``key:ID``, ``anyone`` where no key was asked for, or, on the command line, `local_user`.
            what: such as ``keys.create``.
            target: such as ``flowers:3``; may be set in the block.
            request_id: of the HTTP request.
        """
        action = Action(target=target)
        try:
            with action:
                yield action
        finally:
            self._write(who, what, action, request_id)

    @asynccontextmanager
    async def recording_beside(
        self, who: str, what: str, *, target: str = "", request_id: str | None = None
    ) -> AsyncIterator[Action]:
        """As `recording`, for whoever must not wait for a disk: the line is written in a thread, and then it goes on."""
        action = Action(target=target)
        try:
            with action:
                yield action
        finally:
            await asyncio.to_thread(self._write, who, what, action, request_id)

    def _write(self, who: str, what: str, action: Action, request_id: str | None) -> None:
        fields = {
            "who": who,
            "what": what,
            "target": action.target,
            "result": action.result,
            "request_id": request_id,
        }
        bounded = {name: value and value[:_MOST_CHARACTERS] for name, value in fields.items()}
        entry = {"when": datetime.now(UTC).isoformat(timespec="milliseconds"), **bounded}
        line = json.dumps(entry).replace("\x7f", "\\u007f")  # in ASCII, without anything that a terminal obeys
        try:
            if fields["result"] != OK and not self._file.parent.is_dir():
                return  # a mistyped name makes no repository
            storage.make_directory(self._file.parent)
            storage.append_line(self._file, line.encode(), mode=_MODE)
        except OSError as error:
            logger.error("the audit log cannot be written: %s; not recorded: %s", error.strerror or error, line)


def local_user() -> str:
    """Who runs this process."""
    uid = os.getuid()
    try:
        return f"local:{pwd.getpwuid(uid).pw_name}"
    except KeyError:  # a container may run as a number
        return f"local:{uid}"
