"""Answers as JSONL: the members of the input, ``prediction`` or ``error``, and ``model``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from models.errors import GraftworkError
from service.client import Prediction
from service.scoring.answer import Answer, free_name
from service.scoring.row import Row
from service.scoring.written import NotOurs, Written, whole_lines


class JsonlFormat:
    """One object a row.

    Args:
        columns: of the input.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        taken = tuple(columns)
        self._prediction, self._error, self._model = (
            free_name(name, taken) for name in ("prediction", "error", "model")
        )

    def begin(self, kind: type[Prediction] | None) -> bytes:
        return b""

    def encode(self, answer: Answer) -> bytes:
        if isinstance(answer.outcome, GraftworkError):
            found: dict[str, object] = {self._error: answer.error}
        else:
            found = {self._prediction: answer.outcome.document}
        return _dumped({**answer.row.cells, **found, self._model: answer.model}) + b"\n"

    def own(self, row: Row) -> object:
        return _dumped(row.cells)  # and not the cells themselves: NaN is not even equal to itself

    def read_beginning(self, file: BinaryIO) -> int:
        return 0

    def read(self, file: BinaryIO) -> Iterator[Written]:
        end = file.tell()
        for line in whole_lines(file):
            end += len(line)
            try:
                document = json.loads(line)
                model = document.pop(self._model)
            except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
                raise NotOurs from None
            failed = document.pop(self._error, None) is not None
            document.pop(self._prediction, None)
            yield Written(end=end, own=_dumped(document), failed=failed, model=str(model))

    def may_begin_with(self, rest: bytes, first: Row) -> bool:
        beginning = _dumped(first.cells)[:-1]
        return beginning.startswith(rest) or rest.startswith(beginning)


def _dumped(document: object) -> bytes:
    try:
        return json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate is no UTF-8
        return json.dumps(document).encode()
