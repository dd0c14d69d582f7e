"""A few examples of each class out of a data set, with its whole test split."""

from __future__ import annotations

import csv
import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path


def few_shot(data: Path, shots: int, into: Path, *, seed: int = 0) -> Path:
    """Writes a data set of its own.

    Args:
        data: a folder with ``train`` and ``test``: folders of images by class, or tables with a column ``label``.
        shots: examples of each class.
        into: a folder that does not exist yet.
        seed: of the choice; the same examples for the same seed.
    """
    chance = random.Random(seed)
    into.mkdir(parents=True)
    if not (data / "train").is_dir():
        with (data / "train.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        chosen = _of_each(range(len(rows)), [row["label"] for row in rows], shots, chance)
        with (into / "train.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows[index] for index in chosen)
        shutil.copy(data / "test.csv", into / "test.csv")
        return into
    files = sorted(file.relative_to(data) for file in (data / "train").rglob("*") if file.is_file())
    for index in _of_each(range(len(files)), [file.parent.name for file in files], shots, chance):
        (into / files[index]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / files[index], into / files[index])
    shutil.copytree(data / "test", into / "test")
    return into


def _of_each(indices: Sequence[int], labels: Sequence[str], shots: int, chance: random.Random) -> list[int]:
    groups = defaultdict(list)
    for index in indices:
        groups[labels[index]].append(index)
    return sorted(index for group in groups.values() for index in chance.sample(group, min(shots, len(group))))
