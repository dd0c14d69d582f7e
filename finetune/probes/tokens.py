"""A tag a word: multinomial logistic regression on the whitened vectors of the words' first tokens.

All folds are of whole sentences. There are many words and few settings, so the settings are searched on a part of the
sentences, by log loss; fits on all of them then start from those weights. Products are computed in fp32.

Most words are outside of every entity, and what is likeliest for each word alone finds too few entities. So the logit of ``O``
is lowered by a margin, the one with the highest entity F1 of the out-of-fold answers: what a threshold is to other tasks.
Temperature and entity F1 come from the same answers.

Shapes: N sentences, V words (those that have a vector), H of them held out, D feature dimensions, K whitened dimensions, C tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.calibration import fit_temperature, log_loss
from finetune.evaluations.spans import entity_f1
from finetune.probes.folds import fitting_threads, in_folds
from finetune.probes.logistic import MOST_ITERATIONS, Weights, fit_whitened
from finetune.probes.probe import Candidate, Probe, Progress, as_tensor, head_of
from finetune.probes.search import Place, lowest, walk
from finetune.whitening import ClassCovariance, Floats
from models.entities import OUTSIDE
from models.head import Head
from models.manifest import Calibration, Setting

SEARCHED_WORDS = 15_000
_TOLERANCE = 3e-5  # of the gradient: moves the log loss by less than 1 % of it
_MARGINS = np.arange(13) / 4
MARGIN = "outside_margin"


@dataclass(frozen=True, kw_only=True)
class TaggedWords:
    """Sentences of tagged words.

    Attributes:
        features_VD: of the words that have a vector, fp32.
        words: for each sentence which of its words have one.
        tags: of all words of each sentence.
        classes: the tags that there are, in the order of a head's rows.
    """

    features_VD: npt.NDArray[np.float32]
    words: Sequence[Sequence[int]]
    tags: Sequence[Sequence[str]]
    classes: Sequence[str]

    @cached_property
    def targets(self) -> npt.NDArray[np.int64]:
        """The index of each vector's tag: ``(V,)``."""
        index = {tag: number for number, tag in enumerate(self.classes)}
        own = [index[tags[word]] for tags, words in zip(self.tags, self.words, strict=True) for word in words]
        return np.array(own, dtype=np.int64)

    @cached_property
    def owners(self) -> npt.NDArray[np.int64]:
        """The number of each vector's sentence: ``(V,)``."""
        return np.repeat(np.arange(len(self.words)), [len(words) for words in self.words])

    def said(self, answers_V: npt.NDArray[np.integer[Any]]) -> list[list[str]]:
        """The answered tags of all words; a word that has no vector is outside of everything.

        Args:
            answers_V: for each vector the index of its tag.
        """
        found, answers = [], iter(answers_V.tolist())
        for words, tags in zip(self.words, self.tags, strict=True):
            said = [OUTSIDE] * len(tags)
            for word in words:
                said[word] = self.classes[next(answers)]
            found.append(said)
        return found

    def part(self, chosen: npt.NDArray[np.bool_]) -> TaggedWords:
        """Some of the sentences."""
        return TaggedWords(
            features_VD=self.features_VD[chosen[self.owners]],
            words=[words for words, kept in zip(self.words, chosen, strict=True) if kept],
            tags=[tags for tags, kept in zip(self.tags, chosen, strict=True) if kept],
            classes=self.classes,
        )


def fit_tokens(
    sentences: TaggedWords,
    fold_N: npt.NDArray[np.int64],
    *,
    seed: int,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Probe:
    """Chooses the settings by cross-validation, then fits the head on all words.

    Args:
        sentences: of the training pool.
        fold_N: which fold each sentence is held out in.
        seed: of the choice of sentences that settings are searched on.
        threads, progress: as in `finetune.probes.single_label.fit_single_label`.
    """
    searched_N = _some(sentences, seed)
    with fitting_threads(threads) as pool:
        search = _CrossValidation(sentences.part(searched_N), fold_N[searched_N], pool)
        tried = walk(lambda place: candidate(place.settings, search.logits(place), search.held), progress)
        place = lowest(tried)
        every = _CrossValidation(sentences, fold_N, pool, start=search.weights)
        chosen = with_margin(place.settings, every.logits(place), every.held)
    covariance = ClassCovariance.of(sentences.features_VD, sentences.targets)
    weights = _fit(sentences, covariance, place, start=every.weights[0])
    return Probe(
        head=lowered(head_of(weights.weight_CK, weights.bias_C, "softmax"), sentences.classes, chosen),
        chosen=chosen,
        folds=int(fold_N.max()) + 1,
        candidates=tuple(tried.values()),
        converged=weights.iterations < MOST_ITERATIONS,
    )


def _some(sentences: TaggedWords, seed: int) -> npt.NDArray[np.bool_]:
    """Sentences by chance, with about as many words as are searched on; all where there are no more."""
    order_N = np.random.default_rng(seed).permutation(len(sentences.words))
    words_N = np.array([len(words) for words in sentences.words])
    chosen_N = np.zeros(len(order_N), dtype=np.bool_)
    chosen_N[order_N[np.cumsum(words_N[order_N]) <= SEARCHED_WORDS]] = True
    return chosen_N


class _CrossValidation:
    """Out-of-fold answers with any settings.

    Args:
        sentences: to be held out in turn.
        fold_N: of each of them.
        start: for each fold, weights from which its fits start; settings that are compared start from nothing.

    Attributes:
        held: the sentences of each fold.
        weights: of each fold's last fit.
    """

    def __init__(
        self,
        sentences: TaggedWords,
        fold_N: npt.NDArray[np.int64],
        pool: ThreadPoolExecutor,
        *,
        start: Mapping[int, Weights] | None = None,
    ) -> None:
        self._fold_N, self._pool, self._start = fold_N, pool, start or {}
        self._kept = [sentences.part(fold_N != fold) for fold in range(int(fold_N.max()) + 1)]
        self.held = [sentences.part(fold_N == fold) for fold in range(int(fold_N.max()) + 1)]
        self._covariances = in_folds(
            pool, fold_N, lambda fold: ClassCovariance.of(self._kept[fold].features_VD, self._kept[fold].targets)
        )
        self.weights: dict[int, Weights] = {}

    def logits(self, place: Place) -> Floats:
        """Of all words, those of the first fold first: ``(H, C)``."""
        return np.concatenate(in_folds(self._pool, self._fold_N, lambda fold: self._held_out_logits(place, fold)))

    def _held_out_logits(self, place: Place, fold: int) -> Floats:
        weights = _fit(self._kept[fold], self._covariances[fold], place, start=self._start.get(fold))
        self.weights[fold] = weights
        return weights.logits(self.held[fold].features_VD)


def with_margin(settings: Mapping[str, Setting], logits_HC: Floats, held: Sequence[TaggedWords]) -> Candidate:
    """The candidate with the best margin of ``O``; of equals the lowest. Arguments as for `candidate`."""
    found = (
        candidate({**settings, MARGIN: float(margin)}, logits_HC - _outside(held[0].classes, float(margin)), held)
        for margin in _MARGINS
    )
    return max(found, key=lambda one: one.score)


def lowered(head: Head, classes: Sequence[str], chosen: Candidate) -> Head:
    """The head with the margin that was chosen by `with_margin`."""
    return replace(head, bias_C=head.bias_C - as_tensor(_outside(classes, float(chosen.settings[MARGIN]))))


def _outside(classes: Sequence[str], margin: float) -> Floats:
    """What is taken off each tag's logit."""
    return np.array([margin if tag == OUTSIDE else 0.0 for tag in classes])


def candidate(settings: Mapping[str, Setting], logits_HC: Floats, held: Sequence[TaggedWords]) -> Candidate:
    """What words that a head was not fitted on say of it: temperature, entity F1 and log loss.

    Args:
        logits_HC: of the words of all parts, one part after the other.
        held: parts of the sentences.
    """
    targets_H = np.concatenate([part.targets for part in held])
    temperature = fit_temperature(logits_HC, targets_H)
    answers = np.split(logits_HC.argmax(axis=1), np.cumsum([len(part.targets) for part in held])[:-1])
    said = [tags for part, answers_V in zip(held, answers, strict=True) for tags in part.said(answers_V)]
    wanted = [tags for part in held for tags in part.tags]
    return Candidate(
        settings=settings,
        calibration=Calibration(temperature=temperature),
        score=entity_f1(said, wanted, held[0].classes),
        loss=log_loss(logits_HC, targets_H, temperature),
    )


def _fit(
    sentences: TaggedWords,
    covariance: ClassCovariance,
    place: Place,
    *,
    start: Weights | None,
) -> Weights:
    """Regression on whitened vectors; ``start`` has weights of the vectors themselves."""
    return fit_whitened(
        sentences.features_VD,
        np.eye(len(sentences.classes), dtype=np.float32)[sentences.targets],
        covariance,
        shrinkage=place.shrinkage,
        activation="softmax",
        c=place.c,
        tolerance=_TOLERANCE,
        start=start,
    )
