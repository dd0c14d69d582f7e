"""Content that occurs more than once: within a split it weighs double, across splits it flatters the score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from finetune.dataset import SPLITS, Dataset, Example, Modality, Split
from finetune.findings import Finding, Severity
from finetune.image_hash import similar_images
from models.errors import DatasetInvalid

_Placed = tuple[Split, Example]


def duplicated_in_training(dataset: Dataset) -> frozenset[str]:
    """Identities of the test examples whose very content was there to learn from, in ``train`` or ``val``."""
    learnt = {example.identity for example in dataset.pool}
    return frozenset(example.identity for example in dataset.split("test") if example.identity in learnt)


def new_test_rows(dataset: Dataset) -> list[int]:
    """Which rows of the test split were not there to learn from.

    Raises:
        DatasetInvalid: there are none.
    """
    duplicated = duplicated_in_training(dataset)
    fresh = [row for row, example in enumerate(dataset.split("test")) if example.identity not in duplicated]
    if not fresh:
        raise DatasetInvalid("every test example is in the training data too; a test split must be new to the model")
    return fresh


def find_duplicates(dataset: Dataset, *, strict: bool) -> list[Finding]:
    """Findings on equal content, on content that is nearly equal, and on groups in more than one split.

    Equal are texts character by character, image files byte by byte or, once they were decoded, pixel by pixel. Nearly
    equal are texts but for case and white space, and images that only differ in size, quality or format.

    Args:
        dataset: to look at.
        strict: whether equal content, or a group, in two splits is an error.
    """
    placed: list[_Placed] = [(split, example) for split in SPLITS for example in dataset.split(split)]
    groups = _repeated(placed, lambda example: example.identity)
    across = [group for group in groups if len({split for split, _ in group}) > 1]
    within = [group for group in groups if len({split for split, _ in group}) < len(group)]
    conflicting = [group for group in groups if len({example.label for _, example in group}) > 1]
    severity: Severity = "error" if strict else "warning"
    findings = [
        _finding(
            severity,
            "duplicates_across_splits",
            "Contents that occur in more than one split; remove them from one side, or trust the scores without them"
            + ("." if strict else " (--strict-data makes this an error)."),
            across,
        ),
        _finding(
            "warning", "duplicates_within_split", "Contents that repeat within a split; keep one of each.", within
        ),
        _finding(
            "warning",
            "conflicting_labels",
            "Contents that carry more than one label; decide which is right.",
            conflicting,
        ),
    ]
    near = _near_texts(placed) if dataset.modality == "text" else _near_images(placed)
    findings.append(_near_duplicates(near, dataset.modality))
    findings.append(_groups_across(placed, severity))
    return [finding for finding in findings if finding.count]


def _near_texts(placed: Sequence[_Placed]) -> list[list[_Placed]]:
    return _repeated(placed, lambda example: tuple(" ".join(text.casefold().split()) for text in example.texts))


def _near_images(placed: Sequence[_Placed]) -> list[list[_Placed]]:
    """Of each identity one in each split stands for all: a thousand copies of one picture need no million pairs."""
    hashed = {(split, example.identity): (example, example.hash) for split, example in placed if example.hash}
    several = [(split, example) for (split, _), (example, _) in hashed.items()]
    return [[several[index] for index in group] for group in similar_images([hash for _, hash in hashed.values()])]


def _near_duplicates(groups: Iterable[list[_Placed]], modality: Modality) -> Finding:
    near = [group for group in groups if len({example.identity for _, example in group}) > 1]
    across = sum(len({split for split, _ in group}) > 1 for group in near)
    differ = "Texts that differ only in case or white space" if modality == "text" else "Images that look the same"
    message = f"{differ}, {across} of them across splits; keep one of each, or keep them together with --group-column."
    return _finding("warning", "near_duplicates", message, near)


def _groups_across(placed: Iterable[_Placed], severity: Severity) -> Finding:
    grouped = [(split, example) for split, example in placed if example.group is not None]
    groups = _repeated(grouped, lambda example: example.group)
    across = [_first_of_each_split(group) for group in groups]
    message = (
        "Groups that occur in more than one split, so that test examples are no strangers; keep each in one split."
    )
    return _finding(severity, "groups_across_splits", message, [group for group in across if len(group) > 1])


def _first_of_each_split(placed: Iterable[_Placed]) -> list[_Placed]:
    first: dict[Split, _Placed] = {}
    for split, example in placed:
        first.setdefault(split, (split, example))
    return list(first.values())


def _repeated(placed: Iterable[_Placed], key: Callable[[Example], Hashable]) -> list[list[_Placed]]:
    groups: dict[Hashable, list[_Placed]] = defaultdict(list)
    for split, example in placed:
        groups[key(example)].append((split, example))
    return [group for group in groups.values() if len(group) > 1]


def _finding(severity: Severity, code: str, message: str, groups: list[list[_Placed]]) -> Finding:
    """``count`` is the number of distinct contents; each example lists the places of one of them."""
    examples = tuple(" = ".join(example.source for _, example in group[:3]) for group in groups)
    return Finding(severity=severity, code=code, message=message, count=len(groups), examples=examples)
