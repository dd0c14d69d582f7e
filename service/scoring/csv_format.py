"""Answers as CSV: the columns of the input, those of the prediction, ``error`` and ``model``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from models.errors import Conflict
from service.client import Prediction
from service.scoring.answer import COLUMNS, Answer, cells, free_name
from service.scoring.row import Row
from service.scoring.table import MOST_CHARACTERS
from service.scoring.written import NotOurs, Written, whole_lines


class CsvFormat:
    """Its header depends on what is predicted, which the first answer tells.

    Args:
        columns: of the input.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self._kind: type[Prediction] | None = None

    def begin(self, kind: type[Prediction] | None) -> bytes:
        self._kind = kind
        return self._header(kind)

    def encode(self, answer: Answer) -> bytes:
        own = [answer.row.cells.get(name) for name in self._columns]
        if answer.error:
            found: tuple[object, ...] = ("",) * len(COLUMNS[self._kind])
        elif self._kind is None:
            raise Conflict(
                "the rows that are there were all refused, and this one is answered, for which they have no columns; "
                "--overwrite writes them anew"
            )
        elif type(answer.outcome) is not self._kind:
            raise Conflict("the model does not answer as for the rows that are there; --overwrite writes them anew")
        else:
            found = cells(answer.outcome)
        return _line([*own, *found, answer.error, answer.model])

    def own(self, row: Row) -> object:
        return [_cell(row.cells.get(name)) for name in self._columns]

    def read_beginning(self, file: BinaryIO) -> int:
        there = file.read(max(len(self._header(kind)) for kind in COLUMNS))
        for kind in COLUMNS:
            header = self._header(kind)
            if there.startswith(header):
                self._kind = kind
                file.seek(len(header))
                return len(header)
        file.seek(0)
        return 0

    def read(self, file: BinaryIO) -> Iterator[Written]:
        csv.field_size_limit(MOST_CHARACTERS)
        start = end = file.tell()

        def lines() -> Iterator[str]:
            nonlocal end
            for line in whole_lines(file):
                end += len(line)
                yield line.decode()

        file.seek(start)
        reader = csv.reader(lines(), strict=True)
        width = len(self._columns) + len(COLUMNS[self._kind]) + 2
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                if file.read(1):
                    raise NotOurs from None
                return  # the quotes of the last row were not closed any more
            except UnicodeDecodeError:
                raise NotOurs from None
            if len(fields) != width:
                raise NotOurs
            yield Written(end=end, own=fields[: len(self._columns)], failed=bool(fields[-2]), model=fields[-1])

    def may_begin_with(self, rest: bytes, first: Row) -> bool:
        return any(self._header(kind).startswith(rest) for kind in COLUMNS)

    def _header(self, kind: type[Prediction] | None) -> bytes:
        names = self._columns
        for name in (*COLUMNS[kind], "error", "model"):
            names = (*names, free_name(name, names))
        return _line(names)


def _line(fields: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(map(_cell, fields))  # ends with \r\n, so that either of them is quoted
    return text.getvalue().removesuffix("\r\n").encode() + b"\n"


def _cell(value: object) -> str:
    """As a string in UTF-8: a value of JSON as JSON, nothing as nothing."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()
