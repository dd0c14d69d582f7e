"""Rows of a Parquet file, a few thousand at a time; what is no text, number or list of them is left as it is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from decimal import Decimal

import pyarrow
import pyarrow.parquet

from finetune.findings import shortlist
from finetune.rows import LONGEST, Row, Rows
from models.errors import DatasetInvalid

_ROWS_AT_ONCE = 4096


def read_parquet(stream: io.BufferedReader | io.BytesIO, *, file: str) -> Rows:
    """Reads a whole file.

    Args:
        stream: the bytes; closed afterwards.
        file: its name for messages.

    Returns:
        Rows whose ``line`` is the 1-based row, with Python values: strings, numbers, booleans, lists, None. Images that
        are stored inside the file are not read: such a cell is empty bytes.

    Raises:
        DatasetInvalid: it is damaged, no Parquet file, or has a column twice; with file, and the row where it is one
            that cannot be read.
    """
    rows: list[Row] = []
    with stream:
        try:
            table = pyarrow.parquet.ParquetFile(stream)
            schema = table.schema_arrow
            twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
            if twice:
                raise DatasetInvalid(f"column {shortlist(twice)} appears twice; rename one of the two", file=file)
            readable = [field.name for field in schema if not _holds_bytes(field.type)]
            unread: dict[str, object] = {name: b"" for name in schema.names if name not in readable}
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=readable):
                rows.extend(
                    Row(line=number, cells=unread | cells) for number, cells in enumerate(_cells(batch), len(rows) + 1)
                )
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            # Its own words may speak of pages and thrift: where it happened is all that a user can act on.
            message = f"is no Parquet file or a damaged one, after {len(rows)} rows; write it again"
            raise DatasetInvalid(message, file=file) from error
    for row in rows:
        if any(isinstance(cell, str) and len(cell) > LONGEST for cell in row.cells.values()):
            raise DatasetInvalid(f"a text is longer than {LONGEST} characters; split it", file=file, line=row.line)
    return Rows(file=file, columns=tuple(schema.names), rows=tuple(rows))


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    if kind.num_fields:
        return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))
    types = pyarrow.types
    return any(
        is_it(kind)
        for is_it in (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    )


def _cells(batch: pyarrow.RecordBatch) -> Iterator[dict[str, object]]:
    for row in batch.to_pylist():
        yield {name: float(cell) if isinstance(cell, Decimal) else cell for name, cell in row.items()}
