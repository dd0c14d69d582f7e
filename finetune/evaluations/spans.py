"""Entities that were found against those that there are: right only with the same words and the same type.

As CoNLL's shared tasks count (Tjong Kim Sang & De Meulder 2003).

Shapes: N sentences, T types of entities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.entities import entities


class SpanCounts(NamedTuple):
    """How many entities of each type each sentence has: those that are right, were found, and are there."""

    hits_NT: npt.NDArray[np.int64]
    found_NT: npt.NDArray[np.int64]
    wanted_NT: npt.NDArray[np.int64]


def count_spans(found: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]], types: Sequence[str]) -> SpanCounts:
    """Counts the entities of BIO tags.

    Args:
        found: the tags that were answered, for each sentence.
        wanted: the right ones.
        types: of entities.
    """
    column = {label: number for number, label in enumerate(types)}
    counts = SpanCounts(*(np.zeros((len(wanted), len(types)), dtype=np.int64) for _ in range(3)))
    for row, (said, right) in enumerate(zip(found, wanted, strict=True)):
        spans, true = entities(said), set(entities(right))
        for span in spans:
            counts.found_NT[row, column[span.label]] += 1
            counts.hits_NT[row, column[span.label]] += span in true
        for span in true:
            counts.wanted_NT[row, column[span.label]] += 1
    return counts


def types_of(tags: Sequence[str]) -> tuple[str, ...]:
    """The types of entities that some tags speak of, sorted."""
    return tuple(sorted({tag[2:] for tag in tags} - {""}))


def entity_f1(found: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]], classes: Sequence[str]) -> float:
    """F1 over all entities of all types; 0 where there are none, neither found nor right.

    Args:
        classes: the tags that there are.
    """
    counts = count_spans(found, wanted, types_of(classes))
    return float(2 * counts.hits_NT.sum() / max(counts.found_NT.sum() + counts.wanted_NT.sum(), 1))
