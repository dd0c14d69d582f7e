"""Real sample data for a first try, from packages that are installed anyway; nothing is downloaded."""

from __future__ import annotations

import ast
import csv
import hashlib
import importlib.resources
import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from models.backbone import Modality
from models.errors import Conflict, DatasetInvalid, InvalidParameter, NotFound, did_you_mean

DIGIT_PIXELS = 64

# Each label and the modules whose docstrings it takes. A module that a Python version lacks is skipped: `datetime` and
# `decimal` moved their Python sources to modules with an underscore.
_DOCS: dict[str, tuple[str, ...]] = {
    "archives": ("tarfile", "zipfile", "gzip", "bz2", "lzma"),
    "asyncio": ("asyncio",),
    "dates": ("datetime", "_pydatetime", "calendar", "zoneinfo", "_strptime"),
    "decimal": ("decimal", "_pydecimal"),
    "email": ("email", "mailbox", "smtplib", "imaplib", "poplib"),
    "logging": ("logging",),
    "testing": ("unittest", "doctest"),
    "xml": ("xml",),
}
# Shorter sentences ("Return the value.") tell nothing about their module.
_FEWEST_WORDS, _MOST_WORDS = 8, 60


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A small data set that can be written to a folder.

    Attributes:
        name: what the user asks for.
        modality: what a backbone for it must read.
        description: one line: what it is and where it comes from.
        classes: number of classes, 0 where nothing is labelled.
        per_class: number of rows of each class unless asked otherwise; without classes, of all rows.
        most_per_class: the most that can be asked for.
        write: writes this many rows of each class into an empty folder, and says what to give to training or prediction.
    """

    name: str
    modality: Modality
    description: str
    classes: int
    per_class: int
    most_per_class: int
    write: Callable[[Path, int], Path] = field(repr=False, compare=False)

    @property
    def count(self) -> int:
        """Number of rows that are written unless asked otherwise."""
        return self.per_class * max(self.classes, 1)


def write_sample(name: str, directory: Path, *, per_class: int | None = None) -> Path:
    """Writes a sample into a folder, which is made if need be; the same call always writes the same rows.

    Args:
        name: a key of `SAMPLES`.
        directory: an empty or a new folder.
        per_class: rows of each class; None for the sample's own number.

    Returns:
        What to give to training or prediction: the folder, or the file where a sample is one file.

    Raises:
        NotFound: there is no such sample.
        InvalidParameter: the sample has no classes, or not that many rows of each.
        Conflict: the folder is not empty, or is a file.
        DatasetInvalid: the installed Python lacks what the sample is made of.
    """
    if name not in SAMPLES:
        known = ", ".join(f"'{one}'" for one in SAMPLES)
        raise NotFound(f"unknown sample '{name}'" + (did_you_mean(name, list(SAMPLES)) or f"; there are {known}"))
    sample = SAMPLES[name]
    if per_class is None:
        per_class = sample.per_class
    elif not sample.classes:
        raise InvalidParameter(f"the sample '{name}' has no classes; leave out the number of rows of each class")
    elif not 1 <= per_class <= sample.most_per_class:
        raise InvalidParameter(f"the sample '{name}' has 1 to {sample.most_per_class} rows of each class")
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise Conflict(f"'{directory}' exists and is not an empty folder; name a new one, or empty it first")
    directory.mkdir(parents=True, exist_ok=True)
    return sample.write(directory, per_class)


def _write_digits(directory: Path, per_class: int) -> Path:
    """One folder a class of grey PNG files, named by their row in the original."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in digits.target_names:
        folder = directory / str(label)
        folder.mkdir()
        rows = np.flatnonzero(digits.target == label)
        # Rows are ordered by writer: evenly spaced ones show many hands.
        for row in rows[np.linspace(0, len(rows) - 1, per_class).astype(int)]:
            grey = (digits.images[row] * (255 / 16)).round().astype(np.uint8)
            # Smooth strokes suit a backbone that was trained on photographs better than 8 x 8 blocks.
            image = Image.fromarray(grey).resize((DIGIT_PIXELS, DIGIT_PIXELS), Image.Resampling.BICUBIC)
            image.save(folder / f"{row:04d}.png")
    return directory


def _write_photos(directory: Path, _count: int) -> Path:
    images = importlib.resources.files("sklearn") / "datasets" / "images"
    # The photographs are CC BY 2.0; README.txt names their authors.
    for name in ("china.jpg", "flower.jpg", "README.txt"):
        (directory / name).write_bytes((images / name).read_bytes())
    return directory


def _write_docs(directory: Path, per_class: int) -> Path:
    """`docs.csv` with the columns text and label, by label and then by text."""
    sentences_of = {label: set(_sentences(modules)) for label, modules in _DOCS.items()}
    labels_with = Counter(sentence for sentences in sentences_of.values() for sentence in sentences)
    rows = []
    for label, sentences in sentences_of.items():
        unambiguous = [sentence for sentence in sentences if labels_with[sentence] == 1]
        if len(unambiguous) < per_class:
            raise DatasetInvalid(
                f"this Python has too few docstrings about '{label}' ({len(unambiguous)} sentences of {per_class}): "
                "its standard library was installed without sources; try the sample 'digits'"
            )
        # By hash: a choice that neither file names nor the order of set elements sway.
        chosen = sorted(unambiguous, key=lambda sentence: hashlib.sha256(sentence.encode()).digest())[:per_class]
        rows += [(sentence, label) for sentence in sorted(chosen)]
    table = directory / "docs.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    return table


def _sentences(modules: tuple[str, ...]) -> Iterator[str]:
    """Sentences of prose in the modules' docstrings, with repetitions."""
    for module in modules:
        for file in _sources(module):
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield from _prose(ast.get_docstring(node) or "")


def _sources(module: str) -> list[Path]:
    """The Python files of a top-level module or package but its tests; found, not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return []
    origin = Path(spec.origin)
    if not spec.submodule_search_locations:
        return [origin]
    inside = sorted(origin.parent.rglob("*.py"))
    return [file for file in inside if not {"test", "tests"} & set(file.relative_to(origin.parent).parts)]


def _prose(docstring: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", docstring):
        if ">>>" in paragraph or "::" in paragraph:
            continue
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
            # Starts and ends as a sentence does, and holds no code.
            is_prose = re.fullmatch(r"[A-Z][^<>{}=|\\]*[.!?]", sentence) is not None
            if is_prose and _FEWEST_WORDS <= len(sentence.split()) <= _MOST_WORDS:
                yield sentence


SAMPLES: Mapping[str, Sample] = MappingProxyType(
    {
        sample.name: sample
        for sample in (
            Sample(
                name="digits",
                modality=Modality.IMAGE,
                description="Handwritten digits of 13 people, a folder each for 0 to 9; from scikit-learn.",
                classes=10,
                per_class=60,
                most_per_class=174,
                write=_write_digits,
            ),
            Sample(
                name="photos",
                modality=Modality.IMAGE,
                description="Two photographs to predict: a Chinese temple and a flower; from scikit-learn.",
                classes=0,
                per_class=2,
                most_per_class=2,
                write=_write_photos,
            ),
            Sample(
                name="docs",
                modality=Modality.TEXT,
                description="Sentences about 8 topics as one CSV file; from the docstrings of the Python standard library.",
                classes=len(_DOCS),
                per_class=80,
                most_per_class=80,
                write=_write_docs,
            ),
        )
    }
)
