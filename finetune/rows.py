"""Rows of a CSV, TSV or JSONL file, each with the line it starts on; every complaint names file and line."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath
from typing import NoReturn

from finetune.findings import shortlist
from models.errors import DatasetInvalid

LONGEST = 1 << 20
"""Characters in one field and in one physical line: far above any sentence, far below any machine's memory."""

_DELIMITERS = ",;\t|"
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its first half
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One record.

    Attributes:
        line: 1-based physical line that it starts on; a quoted field may run over several.
        cells: column -> value; strings in CSV and TSV, JSON values in JSONL.
    """

    line: int
    cells: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """All records of a file.

    Attributes:
        file: what to call it in messages.
        columns: names in order of appearance.
        rows: without blank lines.
    """

    file: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_rows(stream: io.BufferedReader | io.BytesIO, *, file: str, encoding: str | None) -> Rows:
    """Parses a table by the suffix of its name.

    Args:
        stream: the bytes.
        file: its name for messages; ``.tsv``, ``.jsonl`` and ``.ndjson`` say what it is, anything else is CSV.
        encoding: as Python names it; None means by byte order mark, otherwise UTF-8.

    Raises:
        DatasetInvalid: with file and 1-based line.
    """
    lines = decoded_lines(stream, file=file, encoding=encoding)
    suffix = PurePath(file).suffix.casefold()
    if suffix in (".jsonl", ".ndjson"):
        return _read_jsonl(lines, file)
    return _read_csv(lines, file, "\t" if suffix == ".tsv" else None)


def decoded_lines(stream: io.BufferedReader | io.BytesIO, *, file: str, encoding: str | None) -> Iterator[str]:
    """Physical lines with their line ends, without byte order mark, never longer than ``LONGEST``; closes the stream.

    Raises:
        DatasetInvalid: bytes that are not text in this encoding, or an endless line.
    """
    start = stream.read(1024)
    stream.seek(0)
    if encoding is None:
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8")
        if encoding == "utf-8" and b"\0" in start:
            message = (
                "holds NUL bytes, so it is no text, or UTF-16 without a byte order mark: then pass --encoding utf-16-le"
            )
            raise DatasetInvalid(message, file=file, line=1)
    try:
        # surrogateescape: a byte that does not decode becomes a lone surrogate, found below with its line and column.
        text = io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="")
    except LookupError as error:
        raise DatasetInvalid(f"unknown encoding '{encoding}'; try utf-8 or latin-1", file=file) from error
    number = 0
    try:
        with text:
            while line := text.readline(LONGEST + 1):
                number += 1
                if len(line) > LONGEST:
                    message = f"the line is longer than {LONGEST} characters; split it"
                    raise DatasetInvalid(message, file=file, line=number)
                if not line.isascii():
                    _reject_surrogates(line, file, number, encoding)
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeError as error:
        message = f"is not {encoding} text; save it as UTF-8, or name its encoding with --encoding"
        raise DatasetInvalid(message, file=file, line=number + 1) from error


def _reject_surrogates(line: str, file: str, number: int, encoding: str) -> None:
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte = ord(line[error.start]) & 0xFF
        message = (
            f"byte 0x{byte:02X} at column {error.start + 1} is not {encoding}; save the file as UTF-8, "
            f"or name its encoding: --encoding latin-1"
        )
        raise DatasetInvalid(message, file=file, line=number) from error


def _read_csv(lines: Iterator[str], file: str, delimiter: str | None) -> Rows:
    head: list[str] = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    else:
        raise DatasetInvalid("is empty; the first line must name the columns, such as text,label", file=file)
    columns: tuple[str, ...] = ()
    rows: list[Row] = []
    start = 1
    with _field_size_limit(LONGEST):
        reader = csv.reader(chain(head, lines), delimiter=delimiter or _sniff(head[-1]), strict=True)
        try:
            for cells in reader:
                if cells and not columns:
                    columns = _header(cells, file, start)
                elif cells:
                    if len(cells) != len(columns):
                        message = (
                            f"has {_fields(len(cells))} where the header has {len(columns)}; "
                            f"put double quotes around a field that holds the delimiter"
                        )
                        raise DatasetInvalid(message, file=file, line=start)
                    rows.append(Row(line=start, cells=dict(zip(columns, cells, strict=True))))
                start = reader.line_num + 1
        except csv.Error as error:
            noticed = f", noticed on line {reader.line_num}" if reader.line_num > start else ""
            message = (
                f"the record that starts here cannot be read ({error}{noticed}); "
                f'close every quoted field, and write a quote inside one as ""'
            )
            raise DatasetInvalid(message, file=file, line=start) from error
    return Rows(file=file, columns=columns, rows=tuple(rows))


def _sniff(header: str) -> str:
    """The delimiter that makes the most columns of the header; a comma when in doubt."""
    return max(_DELIMITERS, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter))))


def _header(cells: list[str], file: str, line: int) -> tuple[str, ...]:
    columns = tuple(cell.strip() for cell in cells)
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DatasetInvalid(f"column {shortlist(twice)} appears twice; rename one of the two", file=file, line=line)
    return columns


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


@contextmanager
def _field_size_limit(limit: int) -> Iterator[None]:
    """The csv module knows this limit only as a global: put it back afterwards."""
    before = csv.field_size_limit(limit)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_jsonl(lines: Iterator[str], file: str) -> Rows:
    rows: list[Row] = []
    columns: dict[str, None] = {}  # ordered; a key may appear for the first time in any line
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if line.lstrip().startswith("["):
            message = "is a JSON array; JSONL is one object per line: jq -c '.[]' FILE > FILE.jsonl"
            raise DatasetInvalid(message, file=file, line=number)
        try:
            value = json.loads(line, object_pairs_hook=_unique, parse_constant=_not_json)
        except json.JSONDecodeError as error:
            message = f"is not JSON ({error.msg} at column {error.colno}); write one object per line"
            raise DatasetInvalid(message, file=file, line=number) from error
        except (ValueError, RecursionError) as error:
            why = "nested too deep" if isinstance(error, RecursionError) else str(error)
            raise DatasetInvalid(f"cannot be used ({why}); correct the line", file=file, line=number) from error
        if not isinstance(value, dict):
            raise DatasetInvalid('is no JSON object; write {"text": ..., "label": ...}', file=file, line=number)
        columns.update(dict.fromkeys(value))
        rows.append(Row(line=number, cells=value))
    return Rows(file=file, columns=tuple(columns), rows=tuple(rows))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key '{key}' appears twice")
        found[key] = value
    return found


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")
