from __future__ import annotations

import numpy as np
import pytest

from finetune.evaluations.spans import entity_f1
from finetune.probes.tokens import TaggedWords, fit_tokens
from finetune.task_fit import scores_of

CLASSES = ("B-city", "I-city", "O")


def sentences(count: int, seed: int = 0, noise: float = 0.4) -> TaggedWords:
    """Sentences of 4 to 9 words with a city of one or two words in half of them; one word in ten has no vector."""
    random = np.random.default_rng(seed)
    centres_CD = np.random.default_rng(7).normal(size=(3, 8))
    tags, words, rows = [], [], []
    for _ in range(count):
        own = ["O"] * int(random.integers(4, 10))
        if random.random() < 0.5:
            first = int(random.integers(0, len(own) - 1))
            own[first] = "B-city"
            if random.random() < 0.5:
                own[first + 1] = "I-city"
        known = [word for word in range(len(own)) if random.random() < 0.9]
        rows += [centres_CD[CLASSES.index(own[word])] + random.normal(scale=noise, size=8) for word in known]
        tags.append(tuple(own))
        words.append(known)
    return TaggedWords(features_VD=np.array(rows, dtype=np.float32), words=words, tags=tags, classes=CLASSES)


def test_entities_are_found_as_often_as_cross_validation_says() -> None:
    known, new = sentences(200), sentences(400, seed=1)
    probe = fit_tokens(known, np.arange(200) % 5, seed=0)
    scores_VC = scores_of(probe.head, new.features_VD, probe.chosen.calibration.temperature)
    score = entity_f1(new.said(scores_VC.argmax(axis=1)), new.tags, CLASSES)
    assert score > 0.6
    assert score == pytest.approx(probe.chosen.score, abs=0.1)
    certainty = scores_VC.max(axis=1).mean()
    assert certainty == pytest.approx((scores_VC.argmax(axis=1) == new.targets).mean(), abs=0.03)
    again = fit_tokens(known, np.arange(200) % 5, seed=0, threads=1)
    assert again.head.to_bytes() == probe.head.to_bytes()


def test_settings_may_be_searched_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_tokens(sentences(200), np.arange(200) % 5, seed=0)
    monkeypatch.setattr("finetune.probes.tokens.SEARCHED_WORDS", 500)
    part = fit_tokens(sentences(200), np.arange(200) % 5, seed=0)
    assert part.chosen.score == pytest.approx(whole.chosen.score, abs=0.03)
    assert part.folds == whole.folds == 5


def test_a_margin_finds_entities_that_most_words_drown() -> None:
    """Where words are hard to tell apart, the likeliest tag of nearly every word is O."""
    probe = fit_tokens(sentences(300, noise=2.0), np.arange(300) % 5, seed=0)
    assert float(probe.chosen.settings["outside_margin"]) > 0


def test_words_without_a_vector_are_outside() -> None:
    known = sentences(30)
    said = known.said(known.targets)
    for own, tags, words in zip(said, known.tags, known.words, strict=True):
        assert own == [tag if word in words else "O" for word, tag in enumerate(tags)]


def test_a_part_has_its_own_vectors() -> None:
    known = sentences(30)
    chosen_N = np.arange(30) % 3 == 0
    part = known.part(chosen_N)
    np.testing.assert_array_equal(part.targets, known.targets[chosen_N[known.owners]])
    assert len(part.features_VD) == sum(map(len, part.words))


def test_shuffled_tags_are_reported_as_chance() -> None:
    known = sentences(300)
    order_V = np.random.default_rng(0).permutation(len(known.features_VD))
    shuffled = TaggedWords(
        features_VD=known.features_VD[order_V], words=known.words, tags=known.tags, classes=known.classes
    )
    probe = fit_tokens(shuffled, np.arange(300) % 5, seed=0)
    assert probe.chosen.score < 0.2
