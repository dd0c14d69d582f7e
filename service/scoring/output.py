"""Where answers are written: a file that can be gone on with, or standard output."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from models.errors import Conflict, GraftworkError, InvalidParameter
from models.storage import reporting
from service.client import Prediction
from service.scoring.answer import Answer
from service.scoring.csv_format import CsvFormat
from service.scoring.jsonl_format import JsonlFormat
from service.scoring.row import Row, Source
from service.scoring.run_record import RunRecord
from service.scoring.written import Format, NotOurs

OUTPUT_SUFFIXES = (".csv", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class Done:
    """What is written already.

    Attributes:
        rows: of the input, from the first one on.
        before: how many of them were written before this run.
        errors: how many of them have one.
        model: that they were asked of, such as ``flowers:3``; None where there are none.
    """

    rows: int = 0
    before: int = 0
    errors: int = 0
    model: str | None = None


class Output:
    """A file of answers, one row for each of the input, in its order. A context manager.

    Whatever ends the program, the rows that are written whole are the first rows of the input.

    Args:
        path: its suffix says the format.
        source: what is scored.
        record: how; kept beside the file.
        overwrite: begin anew where there is something.

    Raises:
        InvalidParameter: nothing is written to such a file.
        Conflict: another program is writing to it.
        StorageFailed: it cannot be written.
    """

    def __init__(self, path: Path, source: Source, record: RunRecord, *, overwrite: bool) -> None:
        if path.suffix.lower() not in OUTPUT_SUFFIXES:
            raise InvalidParameter(f"{path}: answers are written as .csv or .jsonl; name such a file")
        if path.exists() and Path(source.name).exists() and path.samefile(source.name):
            raise InvalidParameter(f"{path} is what is to be scored; name another file with --output")
        self._path = path
        self._record = record
        self._source = source
        self._format: Format = (
            CsvFormat(source.columns) if path.suffix.lower() == ".csv" else JsonlFormat(source.columns)
        )
        with reporting(f"{path} cannot be written"):
            self._file: BinaryIO = open(path, "r+b", opener=_create)  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise Conflict(f"{path} is being written by another program; wait for it") from None
        self._overwrite = overwrite
        self._begun = False

    def resume(self, rows: Iterator[Row]) -> Done:
        """Finds out what is there, takes as many rows from the input, and cuts off a row that is not whole.

        Args:
            rows: of the input, from the first one on; the next one is the first that has no answer.

        Raises:
            Conflict: what is there are no answers for this input, or they were asked for in another way.
        """
        if self._overwrite:
            return Done()
        end = self._format.read_beginning(self._file)
        self._begun = end > 0
        count = errors = 0
        model: str | None = None
        try:
            for written in self._format.read(self._file):
                row = next(rows, None)
                if row is None or self._format.own(row) != written.own or model not in (None, written.model):
                    raise NotOurs
                count, errors, end, model = count + 1, errors + written.failed, written.end, written.model
            self._file.seek(end)
            if not end and (rest := self._file.read()) and not self._may_begin_with(rest):
                raise NotOurs
        except NotOurs:
            raise Conflict(
                f"{self._path} holds something else than answers for {self._source.name}, as row {count + 1} shows; "
                "name another file, or add --overwrite to write it anew"
            ) from None
        if self._file.seek(0, os.SEEK_END):
            self._record.check(self._path)
        self._begun = self._begun or count > 0
        self._file.truncate(end)
        self._file.seek(end)
        return Done(rows=count, before=count, errors=errors, model=model)

    def write(self, answers: Sequence[Answer]) -> None:
        """Writes answers behind those that are there, through to the operating system.

        Raises:
            StorageFailed: the disk is full, say; what was written can be gone on with.
        """
        beginning = b"" if self._begun else self._format.begin(_kind(answers))
        data = beginning + b"".join(map(self._format.encode, answers))
        with reporting(f"{self._path} cannot be written"):
            if not self._begun:  # what is to be overwritten goes when there is an answer, and not before
                self._file.seek(0)
                self._file.truncate()
                self._record.write(
                    self._path
                )  # of an empty file: whenever this ends, no rows have the record of others
            self._begun = True
            self._file.write(data)
            self._file.flush()

    def _may_begin_with(self, rest: bytes) -> bool:
        return self._format.may_begin_with(rest, next(self._source.rows()))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Lines:
    """Answers as JSONL on a stream, such as standard output.

    Args:
        stream: of bytes.
        source: what is scored.
    """

    def __init__(self, stream: BinaryIO, source: Source) -> None:
        self._stream = stream
        self._format = JsonlFormat(source.columns)

    def write(self, answers: Sequence[Answer]) -> None:
        """Writes answers."""
        self._stream.write(b"".join(map(self._format.encode, answers)))
        self._stream.flush()


def _kind(answers: Sequence[Answer]) -> type[Prediction] | None:
    outcomes = (answer.outcome for answer in answers)
    return next((type(outcome) for outcome in outcomes if not isinstance(outcome, GraftworkError)), None)


def _create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)
