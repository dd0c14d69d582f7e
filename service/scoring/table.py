"""The rows of a CSV, TSV or JSONL file, read as a stream; every complaint names file and line."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from models.errors import DatasetInvalid, InputError, InvalidParameter, InvalidValue, shown
from service.client import Item
from service.scoring.columns import Columns, choose_columns
from service.scoring.row import Row

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
MOST_CHARACTERS = 1 << 26  # of a field: no text is longer, and csv allows 128 KiB only
_DELIMITERS = ",;\t|"

Record: TypeAlias = tuple[int, Mapping[str, object]]
"""The 1-based line that a row starts on, and its cells."""


class Table:
    """All rows of a file, each asked about by one or two of its columns.

    The file is read through once at the start: so its rows are counted, and a bad line is known before anything is asked.

    Args:
        path: its suffix says how it is read. Paths of images are relative to its folder.
        named: the columns that the user named.

    Raises:
        DatasetInvalid: it cannot be read, or the columns do not speak for themselves.
    """

    def __init__(self, path: Path, named: Columns) -> None:
        self.name = str(path)
        self._path = path
        columns: dict[str, None] = {}
        self.count = 0
        for _, cells in self._records():
            columns.update(dict.fromkeys(cells))
            self.count += 1
        if not self.count:
            raise DatasetInvalid("holds no rows", file=self.name)
        self.columns = tuple(columns)
        self.chosen = choose_columns(self.columns, named, file=self.name)

    def rows(self) -> Generator[Row, None, None]:
        """The rows in their order; a row that lacks what is asked about has an error in its place."""
        for line, cells in self._records():
            yield Row(cells=cells, item=self._item(line, cells))

    def _records(self) -> Iterator[Record]:
        lines = _lines(self._path)
        return (
            _from_jsonl(lines, self.name) if self._path.suffix.lower() in TABLE_SUFFIXES[2:] else self._from_csv(lines)
        )

    def _item(self, line: int, cells: Mapping[str, object]) -> Item | InputError:
        columns = self.chosen
        found = [cells.get(name) for name in (columns.text, columns.pair, columns.image) if name is not None]
        match found:
            case [str(image)] if columns.image is not None:
                path = self._path.parent / image
                return path if _is_file(path) else InvalidParameter(f"{shown(image)}: there is no such file")
            case [str(text)]:
                return text
            case [str(first), str(second)]:
                return first, second
        return InvalidValue(f"line {line}: column '{columns.image or columns.text}' holds no text")

    def _from_csv(self, lines: Iterator[str]) -> Iterator[Record]:
        csv.field_size_limit(MOST_CHARACTERS)
        first = next(lines, "")
        tabs = self._path.suffix.lower() == ".tsv"
        delimiter = "\t" if tabs else max(_DELIMITERS, key=first.count)
        reader = csv.reader(_chained(first, lines), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        line = 1
        try:
            for fields in reader:
                if not fields:
                    pass  # a blank line
                elif header is None:
                    header = fields
                    if len(set(header)) < len(header):
                        raise DatasetInvalid("two columns have the same name; rename one", file=self.name, line=line)
                elif len(fields) != len(header):
                    message = (
                        f"has {len(fields)} fields, and the header {len(header)}; put quotes around text with commas"
                    )
                    raise DatasetInvalid(message, file=self.name, line=line)
                else:
                    yield line, dict(zip(header, fields, strict=True))
                line = reader.line_num + 1
        except csv.Error as error:
            raise DatasetInvalid(f"cannot be read: {error}", file=self.name, line=line) from error


def _from_jsonl(lines: Iterator[str], file: str) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetInvalid(f"is no JSON: {error}", file=file, line=number) from error
        if not isinstance(cells, dict):
            raise DatasetInvalid('is no JSON object; write {"text": "..."}', file=file, line=number)
        yield number, cells


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or not one
        return False


def _lines(path: Path) -> Iterator[str]:
    """Lines with their ends, in UTF-8 or, with a byte order mark, UTF-16."""
    number = 0
    try:
        with path.open("rb") as file:
            start = file.read(2)
        encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        # A byte that does not decode becomes a lone surrogate, so that its line is known.
        with path.open(encoding=encoding, errors="surrogateescape", newline="") as text:
            for line in text:
                number += 1
                if not line.isascii():
                    line.encode()
                yield line
    except UnicodeError as error:
        raise DatasetInvalid("is no text in UTF-8; save it as UTF-8", file=str(path), line=max(1, number)) from error
    except OSError as error:
        raise DatasetInvalid(f"cannot be read: {error.strerror}", file=str(path)) from error


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest
