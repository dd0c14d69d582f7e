"""One row of what is to be scored."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.errors import InputError
from service.client import Item
from service.scoring.columns import Columns


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        cells: its own columns, which are kept beside its answer: strings, or values of JSON.
        item: what the model is asked about, or why it cannot be.
    """

    cells: Mapping[str, object]
    item: Item | InputError


class Source(Protocol):
    """Rows, in an order that is always the same.

    Attributes:
        name: for messages.
        count: of the rows; at least one.
        columns: of the rows.
        chosen: those of them that a model is asked about; none of them of a folder.
    """

    name: str
    count: int

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def chosen(self) -> Columns: ...

    def rows(self) -> Generator[Row, None, None]:
        """All of them, read as they are asked for."""
        ...
