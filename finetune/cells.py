"""Rows of a table as what they mean: content, label, group and split; every complaint names file and line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from finetune.columns import Columns
from finetune.example import Label, Split, split_named
from finetune.findings import printable
from finetune.labels import parse_class, parse_label, parse_tags, parse_words, reject_surrogates
from finetune.rows import Row
from models.errors import DatasetInvalid
from models.task import Task

if TYPE_CHECKING:
    from models.preprocessor import TextItem

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a row holds.

    Attributes:
        kind: the type of its label before that became a string.
        repaired: whether a tag had to be.
    """

    split: Split
    content: TextItem
    label: Label
    group: str | None
    kind: str
    repaired: bool
    file: str
    line: int


def read_cell(row: Row, columns: Columns, task: Task, *, split: Split | None, file: str) -> Cell:
    """What a row holds, once the columns and the task are known.

    Args:
        row: of a table.
        columns: what its columns are.
        task: what labels are for.
        split: of the whole table; None asks the row.
        file: what to call the table in messages.

    Raises:
        DatasetInvalid: the row cannot be used; with file and line.
    """
    content: TextItem
    repaired = False
    if task is Task.TOKEN_CLASSIFICATION:
        words = _said(parse_words, columns.content, row, file)
        content = " ".join(words)
        label: Label
        label, repaired = _said(lambda cell: parse_tags(cell, words), columns.label, row, file)
    else:
        label = _said(lambda cell: parse_label(task, cell), columns.label, row, file, what="the label ")
        content = _string(row, columns.content, file)
        if columns.text_pair is not None:
            content = (content, _string(row, columns.text_pair, file))
    return Cell(
        split=split or _split_of(row, columns.split, file),
        content=content,
        label=label,
        group=_group_of(row, columns.group, file),
        kind=_kind(row.cells.get(columns.label)),
        repaired=repaired,
        file=file,
        line=row.line,
    )


def _said(parse: Callable[[object], T], column: str, row: Row, file: str, *, what: str = "") -> T:
    """What a cell holds; says where it is if it cannot be used."""
    try:
        return parse(row.cells.get(column))
    except ValueError as error:
        raise DatasetInvalid(f"{what}'{printable(column)}' {error}", file=file, line=row.line) from error


def _string(row: Row, column: str, file: str) -> str:
    content = row.cells.get(column)
    if content is None and column in row.cells:
        content = ""  # JSON's null: an empty text, which the checks count and drop
    if not isinstance(content, str):
        what = "is missing; correct the row" if content is None else "is not a string; correct the row"
        if isinstance(content, bytes):
            what = "holds bytes; write each image to a file of its own, and its path into the table"
        raise DatasetInvalid(f"'{column}' {what}", file=file, line=row.line)
    _said(lambda _: reject_surrogates(content), column, row, file)
    return content


def _kind(value: object) -> str:
    kinds = {bool: "boolean", int: "number", float: "number", str: "string"}
    return kinds.get(type(value), "other")


def _group_of(row: Row, column: str | None, file: str) -> str | None:
    """The group that a row belongs to; None for an empty cell, which stands for itself."""
    value = None if column is None else row.cells.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return _said(parse_class, column or "", row, file)


def _split_of(row: Row, column: str | None, file: str) -> Split:
    if column is None:
        return "train"
    value = row.cells.get(column)
    split = split_named(value) if isinstance(value, str) else None
    if split is None:
        message = f"'{column}' must be train, val or test, not {json.dumps(value, default=str)[:60]}; correct it or rename the column"
        raise DatasetInvalid(message, file=file, line=row.line)
    return split
