"""What a version says of examples: any task, through the real predictor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finetune.example import Example, text_example
from finetune.predictions import Predictions, by_word, predict
from models.precision import Precision
from models.predictor import Predictor, read_head
from models.preprocessor import TextItem, build_preprocessor
from models.repository import ModelRepository
from models.task import Task
from tests.tiny_models import LETTERS, TAGS, TOPICS, torch_engine

TEXTS = [f"text number {index}" + " and more" * (index % 7) for index in range(70)]


def predictor_of(root: Path, name: str) -> Predictor:
    repository = ModelRepository(root)
    version = repository.read(name, 1)
    manifest = version.manifest
    stored = repository.backbones.get(manifest.backbone.digest)
    return Predictor(
        preprocessor=build_preprocessor(manifest.preprocessor, stored.directory, manifest.kind),
        engine=torch_engine(stored),
        head=read_head(version.directory, manifest, Precision.FP32),
        labels=manifest.labels,
        task=manifest.task,
        calibration=manifest.reference.calibration,
    )


def examples_of(items: list[TextItem]) -> list[Example]:
    return [text_example(item, label="", source=str(index)) for index, item in enumerate(items)]


@pytest.mark.parametrize("name", ["letters", "topics", "prices", "follows", "likeness"])
def test_each_example_gets_the_scores_it_gets_alone(tasks_on_disk: Path, name: str) -> None:
    predictor = predictor_of(tasks_on_disk, name)
    is_pair = name in ("follows", "likeness")
    items: list[TextItem] = [(text, "another") if is_pair else text for text in TEXTS]
    reports: list[tuple[int, int]] = []
    predictions = predict(predictor, examples_of(items), lambda done, total: reports.append((done, total)))
    assert (predictions.task, predictions.classes) == (predictor.task, predictor.labels)
    for item, scores_C in list(zip(items, predictions.scores, strict=True))[::9]:
        np.testing.assert_allclose(scores_C, predictor.predict([item])[0].numpy(), atol=1e-5)
    assert reports == [(32, 70), (64, 70), (70, 70)]


def test_words_get_their_own_scores_and_what_is_not_read_gets_none(tasks_on_disk: Path) -> None:
    predictor = predictor_of(tasks_on_disk, "names")
    items: list[TextItem] = ["ann of york", "a \u200b b", "a " * 80 + "z"]
    predictions = predict(predictor, examples_of(items))
    assert [len(scores_WC) for scores_WC in predictions.scores] == [3, 3, 62]  # 62 fit beside [CLS] and [SEP]
    assert np.isnan(predictions.scores[1][:, 0]).tolist() == [False, True, False]
    np.testing.assert_allclose(predictions.scores[0], predictor.predict(["ann of york"]).numpy(), atol=1e-5)
    first, second, third = predictions.answers
    assert first == tuple(TAGS[index] for index in predictions.scores[0].argmax(axis=1))
    assert isinstance(second, tuple)
    assert second[1] == "O"
    assert isinstance(third, tuple)
    assert len(third) == 62


def test_values_are_laid_out_by_word() -> None:
    first, second, third = by_word(np.array([[1.0], [2.0], [3.0]]), [[0, 2], [0], []])
    np.testing.assert_array_equal(first, [[1], [np.nan], [2]])
    np.testing.assert_array_equal(second, [[3]])
    assert third.shape == (0, 1)


def test_scores_become_labels() -> None:
    scores_NC = np.array([[0.1, 0.2, 0.3, 0.4], [0.9, 0.5, 0.1, 0.7], [0.1, 0.1, 0.1, 0.1]])
    single = Predictions(task=Task.SINGLE_LABEL, classes=LETTERS, scores=list(scores_NC))
    assert single.answers == ["mark", "vowel", "vowel"]
    several = Predictions(task=Task.MULTI_LABEL, classes=TOPICS, scores=list(scores_NC), threshold=0.5)
    assert several.answers == [(), ("art", "food", "war"), ()]
    values = Predictions(task=Task.REGRESSION, classes=("price",), scores=list(scores_NC[:, :1]))
    assert values.answers == [0.1, 0.9, 0.1]
