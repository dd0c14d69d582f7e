"""One labelled example: a text, or an image that stays on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, TypeVar

from finetune.files import open_inside
from finetune.findings import Finding
from models.errors import DatasetInvalid

Modality = Literal["image", "text"]
Split = Literal["train", "val", "test"]
Progress = Callable[[int, int], None]
"""Called with (done, total)."""

SPLITS: tuple[Split, ...] = ("train", "val", "test")
_SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}

T = TypeVar("T")
R = TypeVar("R")


def split_named(name: str) -> Split | None:
    """The split that a folder, a file's stem or a cell of a split column names, in the usual spellings."""
    return _SPLIT_NAMES.get(name.strip().casefold())


@dataclass(frozen=True, kw_only=True)
class Example:
    """A text, or an image that stays on disk, with its label.

    Attributes:
        source: what to show a user: the file relative to the dataset, or ``file:line``.
        label: verbatim.
        digest: sha256 (hex) of the text in UTF-8, or of the image file's bytes.
        text: the text; None for an image.
        path: the image file, below ``root``; None for a text.
        root: the folder that ``path`` may not leave; None for a text.
    """

    source: str
    label: str
    digest: str
    text: str | None = None
    path: Path | None = None
    root: Path | None = None

    def read(self) -> bytes | str:
        """The text, or the bytes of the image file.

        Raises:
            DatasetInvalid: the file is gone, cannot be read, or is not the one that was loaded.
        """
        if self.text is not None:
            return self.text
        assert self.path is not None
        assert self.root is not None
        with open_inside(self.root, self.path.relative_to(self.root), file=self.source) as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise DatasetInvalid(
                "the file changed while it was in use; start again and leave the data alone", file=self.source
            )
        return content


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read from a folder or from tables, before anything is checked.

    Attributes:
        modality: of every example.
        splits: the examples of each split; everything is in ``train`` when the data names no splits.
        given_splits: whether the data itself names its splits.
        findings: what was noticed on the way.
    """

    modality: Modality
    splits: Mapping[Split, Sequence[Example]]
    given_splits: bool
    findings: tuple[Finding, ...]


def text_example(text: str, *, label: str, source: str) -> Example:
    return Example(source=source, label=label, digest=hashlib.sha256(text.encode()).hexdigest(), text=text)


def image_example(root: Path, relative: PurePath, *, label: str, file: str, line: int | None = None) -> Example:
    """Hashes an image file.

    Args:
        root: the folder that the file must lie in.
        relative: the file, from ``root``.
        label: verbatim.
        file: what to show a user: the image itself, or the table that names it.
        line: 1-based line of that table.

    Raises:
        DatasetInvalid: it is not a regular file inside ``root``, or cannot be read.
    """
    with open_inside(root, relative, file=file, line=line) as image:
        digest = hashlib.file_digest(image, "sha256").hexdigest()
    source = file if line is None else f"{file}:{line}"
    return Example(source=source, label=label, digest=digest, path=root / relative, root=root)


def in_threads(work: Callable[[T], R], items: Iterable[T], progress: Progress | None) -> list[R]:
    """``work`` of every item, in order, one thread per core: hashing, reading and decoding all release the GIL."""
    every = list(items)
    results: list[R] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for result in pool.map(work, every):
            results.append(result)
            if progress is not None:
                progress(len(results), len(every))
    return results
