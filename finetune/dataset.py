"""A labelled dataset in memory: texts themselves, images by reference."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from finetune.columns import ColumnNames
from finetune.example import SPLITS, Example, Label, Modality, Progress, Split
from finetune.findings import Finding, printable
from finetune.folder import read_folder
from finetune.table import SUFFIXES, find_tables, read_tables
from models.errors import DatasetInvalid
from models.task import Task

__all__ = ["SPLITS", "ColumnNames", "Dataset", "Example", "Modality", "Split", "load_dataset"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Examples of one modality, in up to three splits.

    Attributes:
        name: of the folder or file, for reports.
        modality: of every example.
        splits: those that exist; ``train`` holds everything when the data names none.
        given_splits: whether the data itself names its splits.
        task: what labels are for.
        target: what they are called; of a table the label column.
        known: labels that come first, in this order, as far as they occur.
    """

    name: str
    modality: Modality
    splits: Mapping[Split, tuple[Example, ...]]
    given_splits: bool
    task: Task = Task.SINGLE_LABEL
    target: str = "label"
    known: tuple[str, ...] = ()

    def split(self, name: Split) -> tuple[Example, ...]:
        """The examples of a split, none if it does not exist."""
        return self.splits.get(name, ())

    @property
    def pool(self) -> tuple[Example, ...]:
        """All that a head may learn from: ``train``, then ``val``."""
        return self.split("train") + self.split("val")

    @cached_property
    def pairs(self) -> bool:
        """Whether each example is a pair of texts."""
        return any(isinstance(example.text, tuple) for examples in self.splits.values() for example in examples)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """All labels: those that were known in their order, then all others sorted by code point.

        That is the same in every locale, and whatever the order of the examples.
        Of token classification all tags; of regression the target's name alone.
        """
        if self.task is Task.REGRESSION:
            return (self.target,)
        found = {label for counts in self.counts.values() for label in counts}
        kept = [label for label in self.known if label in found]
        return (*kept, *sorted(found.difference(kept)))

    @cached_property
    def counts(self) -> Mapping[Split, Counter[str]]:
        """Examples per split and class: words per tag in token classification, all examples in regression."""
        return {
            name: Counter(label for example in examples for label in self._named(example.label))
            for name, examples in self.splits.items()
        }

    def _named(self, label: Label) -> tuple[str, ...]:
        return (label,) if isinstance(label, str) else (self.target,) if isinstance(label, float) else label

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) over all (split, label, digest, group): the same for the same data, wherever, in whatever order."""
        rows = sorted(
            json.dumps([name, example.label, example.digest, *((example.group,) if example.group else ())])
            for name, examples in self.splits.items()
            for example in examples
        )
        return hashlib.sha256("".join(f"{row}\n" for row in rows).encode()).hexdigest()


def load_dataset(
    data: Path,
    *,
    columns: ColumnNames | None = None,
    task: Task | None = None,
    encoding: str | None = None,
    progress: Progress | None = None,
) -> tuple[Dataset, tuple[Finding, ...]]:
    """Reads a folder of class folders, a table, or a folder of tables, and hashes every example.

    Args:
        data: class folders (optionally below ``train``, ``val`` and ``test``), a CSV, TSV, JSONL or Parquet file, or a
            folder with such files named after splits.
        columns: of a table, where the header does not speak for itself.
        task: what labels are for, where they do not speak for themselves; class folders hold single labels.
        encoding: of tables and text files; None means by byte order mark, otherwise UTF-8.
        progress: called with (done, total) while image files are hashed.

    Returns:
        The dataset, and what was noticed while reading it.

    Raises:
        DatasetInvalid: it cannot be read as it stands; names the file and, in a table, the 1-based line.
    """
    try:
        root = data.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, up to Python 3.12
        raise DatasetInvalid("does not exist or cannot be read; correct the path", file=printable(str(data))) from error
    name = printable(root.name)
    if root.is_dir():
        files = find_tables(root)
        if not files and columns not in (None, ColumnNames()):
            message = "holds no train table, so it has no columns; leave out --text-column and all other --...-column"
            raise DatasetInvalid(message, file=name)
        if not files and task not in (None, Task.SINGLE_LABEL):
            message = f"holds class folders, one label for each file; for {task} write a table with a label column"
            raise DatasetInvalid(message, file=name)
        reading = (
            read_tables(root, files, columns=columns, task=task, encoding=encoding, progress=progress)
            if files
            else read_folder(root, encoding=encoding, progress=progress)
        )
    elif root.suffix.casefold() in SUFFIXES:
        reading = read_tables(
            root.parent, {None: root.name}, columns=columns, task=task, encoding=encoding, progress=progress
        )
    else:
        message = f"is neither a folder nor a table; tables end in {', '.join(SUFFIXES)}"
        raise DatasetInvalid(message, file=name)
    dataset = Dataset(
        name=root.name,
        modality=reading.modality,
        splits={split: tuple(reading.splits[split]) for split in SPLITS if reading.splits.get(split)},
        given_splits=reading.given_splits,
        task=reading.task,
        target=reading.target,
    )
    return dataset, reading.findings
