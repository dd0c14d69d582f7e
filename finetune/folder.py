"""Datasets laid out as class folders: ``<class>/<file>``, or the same below ``train/``, ``val/`` and ``test/``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

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
from finetune.files import hidden_folders, list_folder, open_inside
from finetune.findings import Finding, Severity, printable, shortlist
from finetune.rows import decoded_lines
from models.errors import DatasetInvalid

# Wider than what is decoded when serving: a format that cannot be used is then reported, not silently passed over.
_IMAGES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif"]
)
_TEXTS = frozenset([".txt"])


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    """A file in a class folder."""

    split: Split
    label: str
    relative: PurePath


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """All files found, and what was passed over."""

    images: list[_Leaf] = field(default_factory=list)
    texts: list[_Leaf] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)
    other_folders: list[str] = field(default_factory=list)
    empty_folders: list[str] = field(default_factory=list)


def read_folder(root: Path, *, encoding: str | None = None, progress: Progress | None = None) -> Reading:
    """Reads class folders of images, or of ``.txt`` files with one text each.

    Hidden files are passed over; hidden folders that hold something are reported. Images win over texts: captions beside images are not the data.

    Args:
        root: the dataset's folder.
        encoding: of text files; None means by byte order mark, otherwise UTF-8.
        progress: called with (done, total) while files are hashed.

    Raises:
        DatasetInvalid: nothing to read, a link, a name that is not Unicode, or a file that cannot be read.
    """
    splits = _split_folders(root)
    tree = _Tree()
    tops: Mapping[Split, PurePath] = splits or {"train": PurePath()}
    for split, top in tops.items():
        _walk_split(root, split, top, tree)
    modality: Modality = "image" if tree.images else "text"
    leaves = tree.images or tree.texts
    if not leaves:
        there = list_folder(root)
        raise DatasetInvalid(
            "holds neither class folders with images or .txt files (train/<class>/ when there are splits), "
            "nor train.csv, train.tsv or train.jsonl; " + (f"it holds {shortlist(there)}" if there else "it is empty"),
            file=root.name,
        )
    if splits:
        used = {top.name for top in splits.values()}
        tree.other_folders.extend(name for name in list_folder(root) if (root / name).is_dir() and name not in used)

    def load(leaf: _Leaf) -> Example:
        source = printable(str(leaf.relative))
        if modality == "image":
            return image_example(root, leaf.relative, label=leaf.label, file=source)
        with open_inside(root, leaf.relative, file=source) as stream:
            text = "".join(decoded_lines(stream, file=source, encoding=encoding))
        return text_example(text, label=leaf.label, source=source)

    found: dict[Split, list[Example]] = {split: [] for split in tops}
    for leaf, example in zip(leaves, in_threads(load, leaves, progress), strict=True):
        found[leaf.split].append(example)
    other = tree.other_files if modality == "text" else tree.other_files + [str(leaf.relative) for leaf in tree.texts]
    return Reading(
        modality=modality,
        splits=found,
        given_splits=bool(splits),
        findings=_findings(tree, other),
    )


def _split_folders(root: Path) -> Mapping[Split, PurePath]:
    """The folders that name splits; none when ``train`` is missing or is itself a class (cars, buses and trains)."""
    named: dict[Split, list[str]] = defaultdict(list)
    for name in list_folder(root):
        split = split_named(name)
        if split is not None and (root / name).is_dir():
            named[split].append(name)
    if not any((root / train / name).is_dir() for train in named["train"] for name in list_folder(root / train)):
        return {}
    for split, names in named.items():
        if len(names) > 1:
            message = f"{shortlist(names)} all mean the {split} split; keep one of them"
            raise DatasetInvalid(message, file=root.name)
    return {split: PurePath(named[split][0]) for split in SPLITS if named[split]}


def _walk_split(root: Path, split: Split, top: PurePath, tree: _Tree) -> None:
    tree.other_folders.extend(str(top / name) for name in hidden_folders(root / top))  # a class may be called .net
    for label in list_folder(root / top):
        folder = top / label
        if not (root / folder).is_dir():
            if folder.suffix.casefold() in _IMAGES:  # other files up here are read-me files and licences
                tree.other_files.append(str(folder))
            continue
        if not _is_unicode(label):
            raise DatasetInvalid("is not a name in UTF-8; rename the folder", file=printable(str(folder)))
        before = len(tree.images) + len(tree.texts)
        for name in list_folder(root / folder):
            relative = folder / name
            suffix = relative.suffix.casefold()
            if suffix in _IMAGES:
                tree.images.append(_Leaf(split=split, label=label, relative=relative))
            elif suffix in _TEXTS:
                tree.texts.append(_Leaf(split=split, label=label, relative=relative))
            elif (root / relative).is_dir():
                tree.other_folders.append(str(relative))
            else:
                tree.other_files.append(str(relative))
        if len(tree.images) + len(tree.texts) == before:
            tree.empty_folders.append(str(folder))


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _findings(tree: _Tree, other_files: list[str]) -> tuple[Finding, ...]:
    noticed: list[tuple[Severity, str, str, list[str]]] = [
        ("warning", "empty_class", "Class folders without any data; fill or remove them.", tree.empty_folders),
        (
            "warning",
            "ignored_folders",
            "Folders that are no class folders were ignored; files lie directly in the folder of their class, and its "
            "name does not begin with a dot.",
            tree.other_folders,
        ),
        (
            "info",
            "ignored_files",
            "Files that are no images or texts, or lie outside of class folders, were ignored.",
            other_files,
        ),
    ]
    return tuple(
        Finding(severity=severity, code=code, message=message, count=len(names), examples=tuple(map(printable, names)))
        for severity, code, message, names in noticed
        if names
    )
