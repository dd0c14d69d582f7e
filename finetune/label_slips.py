"""Labels that look like slips of the pen: reported with the class that was probably meant, never merged."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from finetune.example import Example
from finetune.findings import Finding, shortlist
from finetune.labels import classes_in
from models.task import Task

_RARE = 2
_MUCH_MORE = 10
_SHORTEST = 3  # one edit turns any label of two characters into any other that shares one

_Pair = tuple[str, str]
"""A suspicious label, and the one that was probably meant."""


def find_label_slips(examples: Sequence[Example], task: Task = Task.SINGLE_LABEL) -> list[Finding]:
    """Findings on spaces around labels, on labels that differ only in case or in Unicode form, and on typos.

    Args:
        examples: whose labels, or types of entities, are compared with each other.
        task: what labels are for.
    """
    counts: Counter[str] = Counter()
    sources: dict[str, str] = {}
    for example in examples:
        for label in classes_in(task, example.label):
            counts[label] += 1
            sources.setdefault(label, example.source)
    spaced = [(label, label.strip()) for label in sorted(counts) if label != label.strip()]
    twins, cased = _alike(counts)
    slips = {
        "label_whitespace": ("Labels with spaces at the ends", spaced),
        "label_unicode": ("Labels that look the same but are written with different Unicode characters", twins),
        "label_case": ("Labels that differ only in case", cased),
        "label_typo": ("Rare labels one letter away from a frequent one", _typos(counts)),
    }
    return [
        Finding(
            severity="warning",
            code=code,
            message=f"{what}, kept as they are: {_pairs(pairs)}. Correct them if they are meant to be one class.",
            count=len(pairs),
            examples=tuple(sources[label] for label, _ in pairs),
        )
        for code, (what, pairs) in slips.items()
        if pairs
    ]


def _alike(counts: Counter[str]) -> tuple[list[_Pair], list[_Pair]]:
    """Labels equal but for their Unicode form, and labels equal but for case; spaces at the ends are looked at apart."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        groups[_composed(label).casefold()].append(label)
    twins: list[_Pair] = []
    cased: list[_Pair] = []
    for group in groups.values():
        usual = max(group, key=lambda label: counts[label])
        for label in group:
            if _composed(label) != _composed(usual):
                cased.append((label, usual))
            elif label.strip() != usual.strip():
                twins.append((label, usual))
    return twins, cased


def _composed(label: str) -> str:
    return unicodedata.normalize("NFC", label.strip())


def _typos(counts: Counter[str]) -> list[_Pair]:
    rare = sorted(label for label, count in counts.items() if count <= _RARE and len(label) >= _SHORTEST)
    frequent = [(label, count) for label, count in counts.most_common() if count >= _MUCH_MORE]
    pairs = []
    for label in rare:
        for other, count in frequent:
            if count >= _MUCH_MORE * counts[label] and one_edit_apart(label, other):
                pairs.append((label, other))
                break
    return pairs


def one_edit_apart(a: str, b: str) -> bool:
    """Whether one letter was added, left out, replaced or swapped with its neighbour.

    Digits do not count as letters: ``class_1`` and ``class_2`` are no slip. Nor does case, which is looked at apart.
    """
    if abs(len(a) - len(b)) > 1 or a.casefold() == b.casefold():
        return False
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    if any(character.isdigit() for character in a + b):
        return False
    return max(len(a), len(b)) == 1 or (len(a) == 2 and a == b[::-1])


def _pairs(pairs: Sequence[_Pair]) -> str:
    shown = ", ".join(f"{shortlist([label])} beside {shortlist([usual])}" for label, usual in pairs[:5])
    return f"{shown} and {len(pairs) - 5} more" if len(pairs) > 5 else shown
