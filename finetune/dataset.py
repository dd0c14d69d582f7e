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
from finetune.example import SPLITS, Example, Modality, Progress, Split
from finetune.findings import Finding
from finetune.folder import read_folder
from finetune.table import SUFFIXES, find_tables, read_tables
from models.errors import DatasetInvalid

__all__ = ["SPLITS", "ColumnNames", "Dataset", "Example", "Modality", "Split", "load_dataset"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Examples of one modality, in up to three splits.

    Attributes:
        name: of the folder or file, for reports.
        modality: of every example.
        splits: those that exist; ``train`` holds everything when the data names none.
        given_splits: whether the data itself names its splits.
    """

    name: str
    modality: Modality
    splits: Mapping[Split, tuple[Example, ...]]
    given_splits: bool

    def split(self, name: Split) -> tuple[Example, ...]:
        """The examples of a split, none if it does not exist."""
        return self.splits.get(name, ())

    @property
    def pool(self) -> tuple[Example, ...]:
        """All that a head may learn from: ``train``, then ``val``."""
        return self.split("train") + self.split("val")

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """All labels, sorted by code point: the same in every locale, and whatever the order of the examples."""
        return tuple(sorted({example.label for examples in self.splits.values() for example in examples}))

    @cached_property
    def counts(self) -> Mapping[Split, Counter[str]]:
        """Examples per split and class."""
        return {name: Counter(example.label for example in examples) for name, examples in self.splits.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) over all (split, label, digest): the same for the same data, wherever and in whatever order."""
        triples = sorted(
            (name, example.label, example.digest) for name, examples in self.splits.items() for example in examples
        )
        sha256 = hashlib.sha256()
        for triple in triples:
            sha256.update(json.dumps(triple).encode() + b"\n")
        return sha256.hexdigest()


def load_dataset(
    data: Path,
    *,
    columns: ColumnNames | None = None,
    encoding: str | None = None,
    progress: Progress | None = None,
) -> tuple[Dataset, tuple[Finding, ...]]:
    """Reads a folder of class folders, a table, or a folder of tables, and hashes every example.

    Args:
        data: class folders (optionally below ``train``, ``val`` and ``test``), a CSV, TSV or JSONL file, or a folder
            with such files named after splits.
        columns: of a table, where the header does not speak for itself.
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
        raise DatasetInvalid("does not exist or cannot be read; correct the path", file=str(data)) from error
    if root.is_dir():
        files = find_tables(root)
        if not files and columns not in (None, ColumnNames()):
            message = (
                "holds no train table, so it has no columns; leave out --text-column, --image-column, --label-column"
            )
            raise DatasetInvalid(message, file=root.name)
        reading = (
            read_tables(root, files, columns=columns, encoding=encoding, progress=progress)
            if files
            else read_folder(root, encoding=encoding, progress=progress)
        )
    elif root.suffix.casefold() in SUFFIXES:
        reading = read_tables(root.parent, {None: root.name}, columns=columns, encoding=encoding, progress=progress)
    else:
        message = f"is neither a folder nor a table; tables end in {', '.join(SUFFIXES)}"
        raise DatasetInvalid(message, file=root.name)
    dataset = Dataset(
        name=root.name,
        modality=reading.modality,
        splits={name: tuple(reading.splits[name]) for name in SPLITS if reading.splits.get(name)},
        given_splits=reading.given_splits,
    )
    return dataset, reading.findings
