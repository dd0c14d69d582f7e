"""A test split by content: no seed, no file order, the same on every run and every machine."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from finetune.dataset import Dataset
from finetune.example import Example, Label
from finetune.labels import classes_in
from models.errors import DatasetInvalid, InvalidParameter
from models.task import Task

_MOST_BINS = 10


def split_dataset(dataset: Dataset, *, test_share: float = 0.2) -> Dataset:
    """The dataset with a test split: its own if it has one, else one taken out of ``train``.

    Raises:
        DatasetInvalid: there are too few distinct examples, or groups, to hold any out.
        InvalidParameter: ``test_share`` is not between 0 and 1.
    """
    if dataset.split("test"):
        return dataset
    train, test = make_splits(
        dataset.split("train"), task=dataset.task, test_share=test_share, kept=dataset.split("val")
    )
    if not test:
        what = "examples" if all(example.group is None for example in train) else "groups"
        raise DatasetInvalid(f"too few distinct {what} to hold out a test split; add {what}, or a test split")
    splits = dict(dataset.splits)
    splits["train"], splits["test"] = train, test
    return replace(dataset, splits=splits)


def make_splits(
    examples: Iterable[Example],
    *,
    task: Task = Task.SINGLE_LABEL,
    test_share: float = 0.2,
    kept: Sequence[Example] = (),
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Divides examples into training and test, class by class, by the sha256 of their content.

    Copies of one content, and examples of one group, stay together in a unit. Units go to the test in the order of their
    digests (of a group, the sha256 of its name) while each class that they hold has room: of a class with ``n``
    examples ``max(1, round(test_share * n))``, as far as one is left for training. So a class with copies or large
    groups may give fewer. Where that leaves the test empty, the smallest group is held out that leaves some of each class.
    Content that carries two labels cannot be judged, and stays in training.

    An example with several labels, or tags of several types, counts for the rarest of them; one that has none, for a
    class of its own. Numbers count for their tenth of all examples.

    Args:
        examples: in any order.
        task: what labels are for.
        test_share: of every class, between 0 and 1.
        kept: examples whose content or group must not become the test, such as those of the validation split.

    Returns:
        Training and test examples, each ordered by label, digest and source.

    Raises:
        InvalidParameter: ``test_share`` is not between 0 and 1.
    """
    if not 0 < test_share < 1:
        raise InvalidParameter(f"the test share must lie between 0 and 1, not {test_share}; 0.2 holds out a fifth")
    ordered = sorted(examples, key=lambda one: (one.label, one.digest, one.source, one.group or ""))
    stratum_of = strata_of(ordered, task, test_share)
    sizes = Counter(stratum_of(example.label) for example in ordered)
    room = Counter({stratum: min(max(1, round(test_share * size)), size - 1) for stratum, size in sizes.items()})
    spare = Counter(name for example in ordered for name in classes_in(task, example.label))
    spare.subtract(spare.keys())  # one of each class is not
    units = [unit for unit in _units(ordered, kept) if unit.may_be_held_out]
    held_out: set[int] = set()
    for unit in units:
        strata = Counter(stratum_of(example.label) for example in unit.examples)
        names = Counter(name for example in unit.examples for name in classes_in(task, example.label))
        if _fits(strata, room) and _fits(names, spare):
            held_out.update(map(id, unit.examples))
            room.subtract(strata)
            spare.subtract(names)
    if not held_out:
        held_out.update(map(id, _smallest_group(units, task, spare, len(ordered))))
    train = tuple(example for example in ordered if id(example) not in held_out)
    test = tuple(example for example in ordered if id(example) in held_out)
    return train, test


@dataclass(kw_only=True)
class _Unit:
    """Examples that stay together.

    Attributes:
        key: what decides about them: the sha256 (hex) of their content, or of their group's name.
        grouped: whether a group, not only equal content, holds them together.
        may_be_held_out: False where one content carries two labels, or is in another split.
    """

    key: str
    grouped: bool
    may_be_held_out: bool = True
    examples: list[Example] = field(default_factory=list)


def _units(examples: Sequence[Example], kept: Sequence[Example]) -> list[_Unit]:
    """Examples that share content or a group, directly or by way of others; ordered by key."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while (parent := parents.setdefault(name, name)) != name:
            parents[name] = name = parents[parent]
        return name

    labels: dict[str, set[Label]] = defaultdict(set)
    for example in (*examples, *kept):
        labels[example.identity].add(example.label)
        if example.group is not None:
            # The smaller name is the root, in whatever order they come.
            one, other = sorted((root(example.identity), root(_group_key(example.group))))
            parents[other] = one
    units: dict[str, _Unit] = {}
    for example in examples:
        key = example.digest if example.group is None else _group_key(example.group)
        unit = units.setdefault(root(example.identity), _Unit(key=key, grouped=False))
        unit.key = min(unit.key, key)
        unit.grouped |= example.group is not None
        unit.may_be_held_out &= len(labels[example.identity]) == 1
        unit.examples.append(example)
    for example in kept:
        if (unit_of_kept := units.get(root(example.identity))) is not None:
            unit_of_kept.may_be_held_out = False
    return sorted(units.values(), key=lambda unit: unit.key)


def _fits(needed: Counter[str], room: Counter[str]) -> bool:
    return all(count <= room[name] for name, count in needed.items())  # Counter's own <= looks at all of both


def _group_key(group: str) -> str:
    return hashlib.sha256(f"group {group}".encode()).hexdigest()


def _smallest_group(units: Iterable[_Unit], task: Task, spare: Counter[str], count: int) -> list[Example]:
    """The smallest group that leaves some of each class for training; none without groups."""
    for unit in sorted(units, key=lambda unit: len(unit.examples)):
        names = Counter(name for example in unit.examples for name in classes_in(task, example.label))
        if unit.grouped and _fits(names, spare) and len(unit.examples) < count:
            return unit.examples
    return []


def strata_of(examples: Sequence[Example], task: Task, test_share: float) -> Callable[[Label], str]:
    """What an example counts for when a share of each class is held out, by its label."""
    if task is Task.REGRESSION:
        values = sorted(example.label for example in examples if isinstance(example.label, float))
        bins = min(_MOST_BINS, max(1, round(test_share * len(values))))
        return lambda label: str(bisect_left(values, label) * bins // len(values))
    sizes = Counter(name for example in examples for name in classes_in(task, example.label))
    return lambda label: min(classes_in(task, label), key=lambda name: (sizes[name], name), default="")
