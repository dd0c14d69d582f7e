"""Entities: runs of words that belong together, written as one tag a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

OUTSIDE = "O"


class Entity(NamedTuple):
    """Words ``first`` to ``last``, the last one not among them."""

    label: str
    first: int
    last: int


def is_tag(tag: str) -> bool:
    """Whether it is ``O``, ``B-label`` or ``I-label``."""
    return tag == OUTSIDE or (tag[:2] in ("B-", "I-") and len(tag) > 2)


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities that BIO tags stand for (Ramshaw and Marcus 1995), in their order.

    As the CoNLL-2000 scorer reads them: ``B-`` begins one, and so does an ``I-`` that continues nothing of its label.
    """
    found: list[Entity] = []
    label, first = "", 0
    for index, tag in enumerate([*tags, OUTSIDE]):
        own = tag[2:]
        if label and (own != label or tag.startswith("B-")):
            found.append(Entity(label, first, index))
            label = ""
        if own and not label:
            label, first = own, index
    return found
