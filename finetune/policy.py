"""How much a dataset is forgiven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How much a dataset is forgiven.

    Attributes:
        on_unreadable: leave out images that do not decode and texts that are empty, or fail.
        max_unreadable_ratio: the share of all examples that may be left out.
        min_class_size: training examples that a class needs; a label of many also needs as many without it.
        drop_small_classes: leave out a class that has fewer, rather than fail.
        strict: content or a group that occurs in two splits is an error.
    """

    on_unreadable: Literal["skip", "fail"] = "skip"
    max_unreadable_ratio: float = 0.01
    min_class_size: int = 2
    drop_small_classes: bool = False
    strict: bool = False
