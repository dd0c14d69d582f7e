"""Data sets in memory."""

from __future__ import annotations

from finetune.dataset import Dataset
from finetune.example import Label, Split, text_example
from models.task import Task


def dataset(*rows: tuple[Split, str, Label], task: Task = Task.SINGLE_LABEL) -> Dataset:
    """Texts from (split, text, label)."""
    names: tuple[Split, ...] = ("train", "val", "test")
    splits = {
        name: tuple(text_example(text, label=label, source=text) for split, text, label in rows if split == name)
        for name in names
    }
    return Dataset(name="d", modality="text", splits=splits, given_splits=True, task=task)
