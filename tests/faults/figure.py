"""What a fault scenario measured, and what it must be."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

_HOLDS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a scenario.

    Attributes:
        goal: of the design's numeric goals or rows, such as ``G1`` or ``L03``.
        name: what was measured.
        bar: what it is held against; nothing where it is only reported.
    """

    goal: str
    name: str
    value: float
    unit: str = ""
    relation: Literal["<=", ">=", "=="] = "=="
    bar: float | None = None

    @property
    def holds(self) -> bool:
        return self.bar is None or _HOLDS[self.relation](self.value, self.bar)

    def __str__(self) -> str:
        bar = "" if self.bar is None else f" (must be {self.relation} {self.bar:g})"
        return f"{self.goal} {self.name}: {self.value:.6g} {self.unit}{bar}"


def check(figures: Sequence[Figure]) -> None:
    """Fails with all figures where one does not hold."""
    assert all(figure.holds for figure in figures), "\n".join(
        f"{'     ' if figure.holds else 'MISS '}{figure}" for figure in figures
    )
