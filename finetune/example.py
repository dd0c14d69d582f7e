"""One labelled example: a text, a pair of texts, or an image that stays on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from finetune.files import open_inside
from finetune.findings import Finding
from models.errors import DatasetInvalid
from models.task import Task

if TYPE_CHECKING:
    from finetune.image_hash import ImageHash
    from models.preprocessor import RawItem, TextItem

Label: TypeAlias = str | float | tuple[str, ...]
"""What is to be learned of an example.

| task | label |
|---|---|
| single-label | the class, verbatim |
| multi-label | every class that applies, each once, sorted; may be empty |
| regression | a finite number |
| token-classification | a BIO tag for each word |
"""

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
    """A text, a pair of texts, or an image that stays on disk, with its label.

    Attributes:
        source: what to show a user: the file relative to the dataset, or ``file:line``.
        label: of the dataset's task.
        digest: sha256 (hex) of the text in UTF-8, of a pair's two sha256 together, or of the image file's bytes.
        text: the text, or a pair; for token classification words that single spaces join; None for an image.
        group: what it belongs to (a patient, a conversation): examples of one group never meet in two splits that
            are made here.
        path: the image file, below ``root``; None for a text.
        root: the folder that ``path`` may not leave; None for a text.
        hash: of the image's pixels, once it has been decoded; says nothing that the file does not.
    """

    source: str
    label: Label
    digest: str
    text: TextItem | None = None
    group: str | None = None
    path: Path | None = None
    root: Path | None = None
    hash: ImageHash | None = field(default=None, compare=False)

    @property
    def identity(self) -> str:
        """The same for two examples that are the same to any model: equal text or bytes, or equal pixels."""
        return self.digest if self.hash is None else self.hash.pixels

    @property
    def texts(self) -> tuple[str, ...]:
        """The text, both texts of a pair, or none."""
        return () if self.text is None else (self.text,) if isinstance(self.text, str) else self.text

    def read(self) -> RawItem:
        """The text, the pair, or the bytes of the image file.

        Raises:
            DatasetInvalid: the file is gone, cannot be read, or is not the one that was loaded.
        """
        return self.read_bytes() if self.text is None else self.text

    def read_bytes(self) -> bytes:
        """The bytes of the image file.

        Raises:
            DatasetInvalid: the file is gone, cannot be read, or is not the one that was loaded.
        """
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
        task: of every example.
        target: what the labels are called; of a table the label column.
    """

    modality: Modality
    splits: Mapping[Split, Sequence[Example]]
    given_splits: bool
    findings: tuple[Finding, ...]
    task: Task = Task.SINGLE_LABEL
    target: str = "label"


def text_example(text: TextItem, *, label: Label, source: str, group: str | None = None) -> Example:
    """A text, or a pair, which is never equal to a text."""
    if isinstance(text, str):
        digest = hashlib.sha256(text.encode())
    else:
        digest = hashlib.sha256(b"".join(hashlib.sha256(one.encode()).digest() for one in text))
    return Example(source=source, label=label, digest=digest.hexdigest(), text=text, group=group)


def image_example(
    root: Path, relative: PurePath, *, label: Label, file: str, line: int | None = None, group: str | None = None
) -> Example:
    """Hashes an image file.

    Args:
        root: the folder that the file must lie in.
        relative: the file, from ``root``.
        label: of the dataset's task.
        file: what to show a user: the image itself, or the table that names it.
        line: 1-based line of that table.
        group: what it belongs to.

    Raises:
        DatasetInvalid: it is not a regular file inside ``root``, or cannot be read.
    """
    with open_inside(root, relative, file=file, line=line) as image:
        digest = hashlib.file_digest(image, "sha256").hexdigest()
    source = file if line is None else f"{file}:{line}"
    return Example(source=source, label=label, digest=digest, group=group, path=root / relative, root=root)


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
