"""Rows to learn from, or to be judged by, and what a model should make of them.

Shapes: V vectors of some rows: one a row, or one a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from finetune.example import Example
from models.batch import Row, TextRow


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Examples and targets.

    Attributes:
        targets: one an example: a class's index ``()``, fp32 ones and zeros for all labels ``(C,)``, a value ``()`` in fp32, or
            the indices of its words' tags ``(W,)``.
    """

    examples: Sequence[Example]
    targets: Sequence[torch.Tensor]

    def __len__(self) -> int:
        return len(self.examples)

    def wanted(self, numbers: Sequence[int], rows: Sequence[Row]) -> torch.Tensor:
        """The targets of some examples: ``(V,)`` or ``(V, C)``; of words, those that the rows have a token for."""
        found = []
        for number, row in zip(numbers, rows, strict=True):
            own = self.targets[number]
            words = row.words if isinstance(row, TextRow) else None
            found.append(own[None] if words is None else own[words.read])
        return torch.cat(found)

    def count(self, numbers: Sequence[int], *, words: bool) -> int:
        """How many vectors some examples have: one each, or one a word, those that are cut off among them."""
        return sum(len(self.targets[number]) for number in numbers) if words else len(numbers)
