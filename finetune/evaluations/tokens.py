"""What a model is worth that finds entities.

Shapes: N sentences, T types of entities, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from finetune.evaluations.class_scores import CONFIDENCE, counted
from finetune.evaluations.evaluation import Measured
from finetune.evaluations.resamples import PERMUTATIONS, RESAMPLES, multiplicities, permuted
from finetune.evaluations.spans import count_spans, entity_f1, types_of
from finetune.intervals import percentile

Floats = npt.NDArray[np.float64]
Tags = Sequence[Sequence[str]]


def evaluate_tokens(found: Tags, wanted: Tags, *, classes: Sequence[str], seed: int) -> Measured:
    """Scores tags against the right ones; sentences are what is drawn again, as words of one are no independent rows.

    Args:
        found: the tags that were answered for all words, for each sentence.
        wanted: the right ones.
        classes: the tags that there are.
        seed: of the bootstrap.

    Raises:
        ValueError: no sentences, or tags that are not as many as those that are right.
    """
    lengths_N = np.array([len(tags) for tags in wanted])
    if not len(lengths_N) or [len(tags) for tags in found] != lengths_N.tolist():
        raise ValueError("each sentence needs an answer for each of its words")
    types = types_of(classes)
    counts = count_spans(found, wanted, types)
    right_N = np.array([sum(a == b for a, b in zip(*pair, strict=True)) for pair in zip(found, wanted, strict=True)])

    def statistics(weight_RN: Floats) -> Floats:
        hits_RT, found_RT, wanted_RT = (weight_RN @ each_NT for each_NT in counts)
        hits_R, found_R, wanted_R = (each_RT.sum(axis=1) for each_RT in (hits_RT, found_RT, wanted_RT))
        return np.column_stack(
            [
                2 * hits_R / np.maximum(found_R + wanted_R, 1),
                hits_R / np.maximum(found_R, 1),
                hits_R / np.maximum(wanted_R, 1),
                weight_RN @ right_N / np.maximum(weight_RN @ lengths_N, 1),
                2 * hits_RT / np.maximum(found_RT + wanted_RT, 1),
            ]
        )

    names = ("entity_f1", "entity_precision", "entity_recall", "token_accuracy")
    rows, first = len(lengths_N), len(names)
    estimates = statistics(np.ones((1, rows)))[0].tolist()
    resampled_RK = np.concatenate([statistics(part_RN) for part_RN in multiplicities(rows, RESAMPLES, seed)])
    intervals = [percentile(each, resampled_RK[:, i], CONFIDENCE) for i, each in enumerate(estimates)]
    hits_T, found_T, wanted_T = (each_NT.sum(axis=0).tolist() for each_NT in counts)
    return Measured(
        rows=rows,
        metrics=dict(zip(names, estimates, strict=False)),
        intervals=dict(zip(names, intervals, strict=False)),
        chance=_chance(found, wanted, classes, seed),
        per_class=tuple(
            counted(label, hits=hits_T[i], found=found_T[i], wanted=wanted_T[i], f1_ci=intervals[first + i])
            for i, label in enumerate(types)
        ),
    )


def _chance(found: Tags, wanted: Tags, classes: Sequence[str], seed: int) -> float:
    """Entity F1 of the same tags, given to words at random."""
    said = list(chain.from_iterable(found))
    ends = np.cumsum([len(tags) for tags in wanted]).tolist()
    scores, orders = [], permuted(len(said), seed)
    for _ in range(PERMUTATIONS):
        shuffled = [said[i] for i in next(orders)]
        cut = [shuffled[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        scores.append(entity_f1(cut, wanted, classes))
    return float(np.mean(scores))
