"""Content that occurs more than once: within a split it weighs double, across splits it flatters the score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from finetune.dataset import SPLITS, Dataset, Example, Split
from finetune.findings import Finding, Severity

_Placed = tuple[Split, Example]


def duplicated_in_training(dataset: Dataset) -> frozenset[str]:
    """Digests of the test examples whose very content was there to learn from, in ``train`` or ``val``."""
    learnt = {example.digest for example in dataset.pool}
    return frozenset(example.digest for example in dataset.split("test") if example.digest in learnt)


def find_duplicates(dataset: Dataset, *, strict: bool) -> list[Finding]:
    """Findings on equal content, and on texts that are equal but for case and white space.

    Args:
        dataset: to look at.
        strict: whether equal content in two splits is an error.
    """
    placed: list[_Placed] = [(split, example) for split in SPLITS for example in dataset.split(split)]
    groups = _repeated(placed, lambda example: example.digest)
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
    if dataset.modality == "text":
        findings.append(_near_duplicates(placed))
    return [finding for finding in findings if finding.count]


def _near_duplicates(placed: list[_Placed]) -> Finding:
    groups = _repeated(placed, lambda example: " ".join((example.text or "").casefold().split()))
    near = [group for group in groups if len({example.digest for _, example in group}) > 1]
    across = sum(len({split for split, _ in group}) > 1 for group in near)
    message = f"Texts that differ only in case or white space, {across} of them across splits; keep one of each."
    return _finding("warning", "near_duplicates", message, near)


def _repeated(placed: Iterable[_Placed], key: Callable[[Example], str]) -> list[list[_Placed]]:
    groups: dict[str, list[_Placed]] = defaultdict(list)
    for split, example in placed:
        groups[key(example)].append((split, example))
    return [group for group in groups.values() if len(group) > 1]


def _finding(severity: Severity, code: str, message: str, groups: list[list[_Placed]]) -> Finding:
    """``count`` is the number of distinct contents; each example lists the places of one of them."""
    examples = tuple(" = ".join(example.source for _, example in group[:3]) for group in groups)
    return Finding(severity=severity, code=code, message=message, count=len(groups), examples=examples)
