"""Names of classes, a line each: what Triton reads, and everybody else can."""

from __future__ import annotations

from collections.abc import Sequence

LABELS = "labels.txt"


def label_lines(labels: Sequence[str]) -> bytes:
    """The contents of `LABELS`, in the order of the classes."""
    return "".join(f"{' '.join(label.splitlines())}\n" for label in labels).encode()
