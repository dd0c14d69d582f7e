"""Datasets in tables: each row is a text, a pair, words, or the path of an image, with its label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath

from finetune.cells import Cell, read_cell
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
from finetune.findings import Finding, printable
from finetune.labels import are_numbers, detect_task
from finetune.rows import Rows, read_rows
from models.errors import DatasetInvalid
from models.task import Task

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

_MANY_NUMBERS = 20  # classes that are named by numbers are mostly fewer


@dataclass(frozen=True, kw_only=True)
class _Table:
    """One file."""

    split: Split | None
    rows: Rows
    columns: Columns


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
    task: Task | None = None,
    encoding: str | None = None,
    progress: Progress | None = None,
) -> Reading:
    """Reads one table, or one for each split.

    Args:
        root: the tables' folder; image paths count from it and stay inside it.
        files: names in that folder. The key None stands for a table of its own, whose column ``split``, if there is
            one, says where each row belongs.
        columns: those that the user named.
        task: that the user named; None reads it from the labels.
        encoding: of the tables; None means by byte order mark, otherwise UTF-8.
        progress: called with (done, total) while images are hashed.

    Raises:
        DatasetInvalid: with file and 1-based line (of Parquet, row) where there is one.
    """
    tables = [_read(root, split, file, columns or ColumnNames(), task, encoding) for split, file in files.items()]
    modality = _only_one(root, tables)
    detected = task or _detect(tables)
    cells = [
        read_cell(row, table.columns, detected, split=table.split, file=table.rows.file)
        for table in tables
        for row in table.rows.rows
    ]

    def load(cell: Cell) -> Example:
        if modality == "text":
            source = f"{cell.file}:{cell.line}"
            return text_example(cell.content, label=cell.label, source=source, group=cell.group)
        assert isinstance(cell.content, str)
        relative = _relative(cell.content, cell.file, cell.line)
        return image_example(root, relative, label=cell.label, file=cell.file, line=cell.line, group=cell.group)

    examples = list(map(load, cells)) if modality == "text" else in_threads(load, cells, progress)
    splits: dict[Split, list[Example]] = {}
    for cell, example in zip(cells, examples, strict=True):
        splits.setdefault(cell.split, []).append(example)
    target = tables[0].columns.label
    noticed = [
        *(_task_findings(detected, tables[0].columns, cells) if task is None else ()),
        *(_mixed_types(cells, examples) if detected is Task.SINGLE_LABEL else ()),
        *_repaired_tags(cells, examples),
    ]
    return Reading(
        modality=modality,
        splits=splits,
        given_splits=any(table.split is not None or table.columns.split is not None for table in tables),
        findings=tuple(noticed),
        task=detected,
        target=target,
    )


def _read(
    root: Path, split: Split | None, file: str, named: ColumnNames, task: Task | None, encoding: str | None
) -> _Table:
    shown = printable(file)
    with open_inside(root, PurePath(file), file=shown) as stream:
        if PurePath(file).suffix.casefold() == ".parquet":
            from finetune.parquet import read_parquet  # pyarrow takes its time, and most data does without

            rows = read_parquet(stream, file=shown)
        else:
            rows = read_rows(stream, file=shown, encoding=encoding)
    if not rows.rows:
        raise DatasetInvalid("holds no rows; add some, or remove the file", file=shown)
    return _Table(split=split, rows=rows, columns=choose_columns(rows, named, task))


def _only_one(root: Path, tables: Sequence[_Table]) -> Modality:
    """The modality of all tables, which are also alike in having pairs or tags, or not."""
    kinds: dict[str, str] = {}
    for table in tables:
        of = table.columns
        kind = "images" if of.modality == "image" else "pairs" if of.text_pair else "words" if of.tagged else "texts"
        kinds.setdefault(kind, table.rows.file)
    if len(kinds) > 1:
        (first, file), (second, other) = list(kinds.items())[:2]
        message = f"'{file}' holds {first} and '{other}' {second}; name one kind of column for both"
        raise DatasetInvalid(f"{message}: --text-column, --text-pair-column or --image-column", file=root.name)
    return tables[0].columns.modality


def _detect(tables: Sequence[_Table]) -> Task:
    if tables[0].columns.tagged:
        return Task.TOKEN_CLASSIFICATION
    return detect_task(row.cells.get(table.columns.label) for table in tables for row in table.rows.rows)


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


def _mixed_types(cells: Sequence[Cell], examples: Sequence[Example]) -> Iterator[Finding]:
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


def _repaired_tags(cells: Sequence[Cell], examples: Sequence[Example]) -> Iterator[Finding]:
    odd = [example.source for cell, example in zip(cells, examples, strict=True) if cell.repaired]
    if odd:
        yield Finding(
            severity="warning",
            code="tags_repaired",
            message="An entity began with I- where nothing stood before it; it was read as B-.",
            count=len(odd),
            examples=tuple(odd),
        )


def _task_findings(task: Task, columns: Columns, cells: Sequence[Cell]) -> Iterator[Finding]:
    """What the data was taken for, where it could have been something else."""
    why = {
        Task.MULTI_LABEL: f"'{columns.label}' holds lists",
        Task.REGRESSION: f"'{columns.label}' holds numbers with fractions",
        Task.TOKEN_CLASSIFICATION: f"'{columns.content}' and '{columns.label}' hold lists",
    }.get(task)
    pair = None if columns.text_pair is None else f"'{columns.content}' and '{columns.text_pair}' are a pair of texts"
    classes = {cell.label for cell in cells if isinstance(cell.label, str)} if task is Task.SINGLE_LABEL else set()
    if len(classes) >= _MANY_NUMBERS and are_numbers(classes):
        why = f"'{columns.label}' holds {len(classes)} whole numbers, which may be amounts: then pass --task regression"
    if why or pair:
        reasons = " and ".join(filter(None, (pair, why)))
        message = f"The task is {task}: {reasons}. Name another with --task"
        message += ", or one text with --text-column." if pair else "."
        yield Finding(severity="info", code="task_detected", message=message, count=len(cells))
