"""A test split by content: no seed, no file order, the same on every run and every machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace

from finetune.dataset import Dataset
from finetune.example import Example
from models.errors import DatasetInvalid, InvalidParameter


def split_dataset(dataset: Dataset, *, test_share: float = 0.2) -> Dataset:
    """The dataset with a test split: its own if it has one, else one taken out of ``train``.

    Raises:
        DatasetInvalid: there are too few distinct examples to hold any out.
        InvalidParameter: ``test_share`` is not between 0 and 1.
    """
    if dataset.split("test"):
        return dataset
    val = dataset.split("val")
    train, test = make_splits(
        dataset.split("train"), test_share=test_share, keep_in_train={example.digest for example in val}
    )
    if not test:
        raise DatasetInvalid("too few distinct examples to hold out a test split; add examples, or a test split")
    splits = dict(dataset.splits)
    splits["train"], splits["test"] = train, test
    return replace(dataset, splits=splits)


def make_splits(
    examples: Iterable[Example], *, test_share: float = 0.2, keep_in_train: Collection[str] = frozenset()
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Divides examples into training and test, class by class, by the sha256 of their content.

    Of a class with ``n`` examples, the ``max(1, round(test_share * n))`` with the smallest digests become the test, as
    far as one is left for training. Copies of one content stay together, so a class with copies may give fewer.
    Content that carries two labels cannot be judged, and stays in training.

    Args:
        examples: in any order.
        test_share: of every class, between 0 and 1.
        keep_in_train: digests that must not become the test, such as those of the validation split.

    Returns:
        Training and test examples, each ordered by label, digest and source.

    Raises:
        InvalidParameter: ``test_share`` is not between 0 and 1.
    """
    if not 0 < test_share < 1:
        raise InvalidParameter(f"the test share must lie between 0 and 1, not {test_share}; 0.2 holds out a fifth")
    ordered = sorted(examples, key=lambda example: (example.label, example.digest, example.source))
    labels: dict[str, set[str]] = defaultdict(set)
    classes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))  # label -> digest -> copies
    for example in ordered:
        labels[example.digest].add(example.label)
        classes[example.label][example.digest] += 1
    held_out: set[str] = set()
    for copies in classes.values():
        size = sum(copies.values())
        room = min(max(1, round(test_share * size)), size - 1)
        for digest, count in copies.items():  # by digest, since examples are in that order
            if count <= room and len(labels[digest]) == 1 and digest not in keep_in_train:
                held_out.add(digest)
                room -= count
    train = tuple(example for example in ordered if example.digest not in held_out)
    test = tuple(example for example in ordered if example.digest in held_out)
    return train, test
