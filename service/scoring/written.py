"""What is in a file of answers already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from service.client import Prediction
from service.scoring.answer import Answer
from service.scoring.row import Row


@dataclass(frozen=True, kw_only=True)
class Written:
    """A whole row of a file.

    Attributes:
        end: the byte behind it.
        own: what it says of the input, as `Format.own` does.
        failed: whether it has an error.
        model: that was asked.
    """

    end: int
    own: object
    failed: bool
    model: str


class NotOurs(Exception):
    """A file, or a row of it, was not written for this input."""


class Format(Protocol):
    """How answers are written, and read again."""

    def begin(self, kind: type[Prediction] | None) -> bytes:
        """What comes before the first row.

        Args:
            kind: of the predictions; None where there are none.
        """
        ...

    def encode(self, answer: Answer) -> bytes:
        """A row."""
        ...

    def own(self, row: Row) -> object:
        """What a row of the input is recognised by."""
        ...

    def read_beginning(self, file: BinaryIO) -> int:
        """Reads what comes before the first row; how many bytes that is, 0 where it is not whole."""
        ...

    def read(self, file: BinaryIO) -> Iterator[Written]:
        """The whole rows that follow."""
        ...

    def may_begin_with(self, rest: bytes, first: Row) -> bool:
        """Whether bytes without a whole row may be the beginning of such a file."""
        ...


def whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines that were written to their end."""
    for line in file:
        if not line.endswith(b"\n"):
            return
        yield line
