"""Datasets in tables: each row is a text, or the path of an image, with its label."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath

from finetune.columns import ColumnNames, Columns, choose_columns
from finetune.example import (
    SPLITS,
    Example,
    Modality,
    Progress,
    Reading,
    Split,
    image_example,
    in_threads,
    split_named,
    text_example,
)
from finetune.files import list_folder, open_inside
from finetune.findings import Finding
from finetune.rows import Row, read_rows
from models.errors import DatasetInvalid

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One row, once its columns are known; ``kind`` is the type of its label before it became a string."""

    split: Split
    content: str
    label: str
    kind: str
    file: str
    line: int


def find_tables(root: Path) -> Mapping[Split | None, str]:
    """The tables of a folder that are named after splits; none unless there is one for training.

    Raises:
        DatasetInvalid: two of them mean the same split.
    """
    found: dict[Split, str] = {}
    for name in list_folder(root):
        split = split_named(PurePath(name).stem)
        if split is None or PurePath(name).suffix.casefold() not in SUFFIXES:
            continue
        if split in found:
            message = f"'{found[split]}' and '{name}' both mean the {split} split; keep one of them"
            raise DatasetInvalid(message, file=root.name)
        found[split] = name
    return {split: found[split] for split in SPLITS if split in found} if "train" in found else {}


def read_tables(
    root: Path,
    files: Mapping[Split | None, str],
    *,
    columns: ColumnNames | None = None,
    encoding: str | None = None,
    progress: Progress | None = None,
) -> Reading:
    """Reads one table, or one for each split.

    Args:
        root: the tables' folder; image paths count from it and stay inside it.
        files: names in that folder. The key None stands for a table of its own, whose column ``split``, if there is
            one, says where each row belongs.
        columns: those that the user named.
        encoding: of the tables; None means by byte order mark, otherwise UTF-8.
        progress: called with (done, total) while images are hashed.

    Raises:
        DatasetInvalid: with file and 1-based line where there is one.
    """
    cells: list[_Cell] = []
    modalities: dict[Modality, str] = {}
    given_splits = False
    for split, file in files.items():
        with open_inside(root, PurePath(file), file=file) as stream:
            rows = read_rows(stream, file=file, encoding=encoding)
        if not rows.rows:
            raise DatasetInvalid("holds no rows; add some, or remove the file", file=file)
        chosen = choose_columns(rows, columns or ColumnNames())
        modalities[chosen.modality] = file
        given_splits |= split is not None or chosen.split is not None
        cells.extend(_cell(row, chosen, split or _split_of(row, chosen.split, file), file) for row in rows.rows)
    if len(modalities) > 1:
        message = f"'{modalities['text']}' holds texts and '{modalities['image']}' images; name one kind of column"
        raise DatasetInvalid(message + ": --text-column or --image-column", file=root.name)
    modality = next(iter(modalities))

    def load(cell: _Cell) -> Example:
        if modality == "text":
            return _text(cell)
        relative = _relative(cell.content, cell.file, cell.line)
        return image_example(root, relative, label=cell.label, file=cell.file, line=cell.line)

    examples = list(map(load, cells)) if modality == "text" else in_threads(load, cells, progress)
    splits: dict[Split, list[Example]] = {}
    for cell, example in zip(cells, examples, strict=True):
        splits.setdefault(cell.split, []).append(example)
    return Reading(
        modality=modality, splits=splits, given_splits=given_splits, findings=tuple(_mixed_types(cells, examples))
    )


def _cell(row: Row, columns: Columns, split: Split, file: str) -> _Cell:
    label, kind = _label(row, columns.label, file)
    content = row.cells.get(columns.content)
    if content is None and columns.content in row.cells:
        content = ""  # JSON's null: an empty text, which the checks count and drop
    if not isinstance(content, str):
        what = "is missing" if content is None else "is not a string"
        raise DatasetInvalid(f"'{columns.content}' {what}; correct the row", file=file, line=row.line)
    _reject_surrogates(content, columns.content, file, row.line)
    return _Cell(split=split, content=content, label=label, kind=kind, file=file, line=row.line)


def _label(row: Row, column: str, file: str) -> tuple[str, str]:
    """The label as a string, and what it was before."""
    value = row.cells.get(column)
    if isinstance(value, str) and value.strip():
        _reject_surrogates(value, column, file, row.line)
        return value, "string"
    if isinstance(value, bool):
        return json.dumps(value), "boolean"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value), "number"
    if value is None or isinstance(value, str):
        raise DatasetInvalid(f"the label '{column}' is empty; fill it in or delete the row", file=file, line=row.line)
    message = f"the label '{column}' is no string, number or boolean; give each row one label"
    raise DatasetInvalid(message, file=file, line=row.line)


def _reject_surrogates(text: str, column: str, file: str, line: int) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"'{column}' holds half of a surrogate pair, which is no character; correct the \\u escape"
        raise DatasetInvalid(message, file=file, line=line) from error


def _split_of(row: Row, column: str | None, file: str) -> Split:
    if column is None:
        return "train"
    value = row.cells.get(column)
    split = split_named(value) if isinstance(value, str) else None
    if split is None:
        message = (
            f"'{column}' must be train, val or test, not {json.dumps(value)[:60]}; correct it or rename the column"
        )
        raise DatasetInvalid(message, file=file, line=row.line)
    return split


def _text(cell: _Cell) -> Example:
    return text_example(cell.content, label=cell.label, source=f"{cell.file}:{cell.line}")


def _relative(path: str, file: str, line: int) -> PurePath:
    if not path.strip():
        raise DatasetInvalid("the image path is empty; fill it in or delete the row", file=file, line=line)
    if "://" in path or path.startswith("data:"):
        message = "the image path is a URL; download the images and write their paths"
        raise DatasetInvalid(message, file=file, line=line)
    if PurePath(path).is_absolute() or PureWindowsPath(path).drive or ".." in PurePath(path).parts:
        message = "the image path leaves the table's folder; put the images beside the table and write relative paths"
        raise DatasetInvalid(message, file=file, line=line)
    return PurePath(path)


def _mixed_types(cells: Sequence[_Cell], examples: Sequence[Example]) -> Iterator[Finding]:
    kinds = Counter(cell.kind for cell in cells)
    if len(kinds) < 2:
        return
    usual = kinds.most_common(1)[0][0]
    odd = [example.source for cell, example in zip(cells, examples, strict=True) if cell.kind != usual]
    yield Finding(
        severity="warning",
        code="mixed_label_types",
        message=f'Most labels are of type {usual}, these are not; all became text, so that 1 and "1" are one class. '
        "Write them all in one way.",
        count=len(odd),
        examples=tuple(odd),
    )
