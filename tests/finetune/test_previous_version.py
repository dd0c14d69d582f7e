"""A version that is about to be published against the one before it, on the same rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.comparison import Comparison
from finetune.example import Example, Label, text_example
from finetune.findings import Finding
from finetune.learnt_rows import FILE, learnt_rows
from finetune.predictions import Predictions, predict
from finetune.previous_version import Vectors, compare_with_previous
from finetune.primary_metric import METRICS
from models.backbone_store import StoredBackbone
from models.engine import Engine
from models.manifest import Data
from models.precision import Precision
from models.predictor import Predictor, read_head
from models.preprocessor import TextItem, build_preprocessor
from models.repository import ModelRepository
from models.task import Task
from models.version import ModelVersion
from tests.tiny_models import LETTERS, TorchEngines, publish_texts

TEXTS = [f"text number {index}" + " and more" * (index % 3) for index in range(60)]


@pytest.fixture
def repository(tmp_path: Path, tasks_on_disk: Path) -> ModelRepository:
    """A copy with a first version for each task, to be changed at will."""
    shutil.copytree(tasks_on_disk, tmp_path / "repository")
    return ModelRepository(tmp_path / "repository")


def predictor_of(repository: ModelRepository, version: ModelVersion) -> Predictor:
    manifest = version.manifest
    stored = repository.backbones.get(manifest.backbone.digest)
    return Predictor(
        preprocessor=build_preprocessor(manifest.preprocessor, stored.directory, manifest.kind),
        engine=TorchEngines().build(stored, Precision.FP32),
        head=read_head(version.directory, manifest),
        labels=manifest.labels,
        task=manifest.task,
        calibration=manifest.reference.calibration,
    )


def examples_of(items: Sequence[TextItem], labels: Sequence[Label] | None = None) -> list[Example]:
    every = labels or [""] * len(items)
    return [text_example(item, label=every[row], source=str(row)) for row, item in enumerate(items)]


def says(labels: Sequence[str], classes: Sequence[str] = LETTERS) -> Predictions:
    """A model that answers so."""
    scores_NC = np.eye(len(classes))[[classes.index(label) for label in labels]]
    return Predictions(task=Task.SINGLE_LABEL, classes=classes, scores=list(scores_NC))


def compare(repository: ModelRepository, name: str, *parts: Any, **settings: Any) -> Comparison | Finding | None:
    options: dict[str, Any] = {"fingerprint": "new", "engines": TorchEngines(), "seed": 0, **settings}
    return compare_with_previous(repository, name, *parts, **options)


def letters_that_version_1_says(repository: ModelRepository) -> list[str]:
    found = predict(predictor_of(repository, repository.read("letters", 1)), examples_of(TEXTS)).answers
    return [str(answer) for answer in found]


def test_the_newest_version_is_asked(repository: ModelRepository, tiny_text: str) -> None:
    publish_texts(repository, tiny_text, "letters", LETTERS, seed=9)
    result = compare(repository, "letters", examples_of(TEXTS, ["vowel"] * 60), says(["vowel"] * 60))
    assert isinstance(result, Comparison)
    assert result.previous == "letters:2"


def test_an_embedding_of_the_same_name_is_not_compared_with(repository: ModelRepository) -> None:
    found = compare(repository, "vectors", examples_of(TEXTS, ["vowel"] * 60), says(["vowel"] * 60))
    assert isinstance(found, Finding)
    assert "answers another task, embedding" in found.message


def test_seed_and_metric_are_the_callers(repository: ModelRepository) -> None:
    given = (examples_of(TEXTS, ["vowel", "mark"] * 30), says(["vowel"] * 60))
    first, again, other = (compare(repository, "letters", *given, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other

    def mistakes(truths: Sequence[Label], answers: Sequence[Label]) -> Any:
        right = METRICS["accuracy"](truths, answers)
        return lambda rows_RN: right(rows_RN) - 1

    counted = compare(repository, "letters", *given, metric=mistakes)
    assert isinstance(first, Comparison)
    assert isinstance(counted, Comparison)
    assert counted.score == first.score - 1
    assert counted.difference == pytest.approx(first.difference)


def test_a_label_that_was_renamed_counts_as_the_new_one(repository: ModelRepository) -> None:
    said = letters_that_version_1_says(repository)
    now = ["soft" if letter == "vowel" else letter for letter in said]
    classes = ["soft" if letter == "vowel" else letter for letter in LETTERS]
    given = (examples_of(TEXTS, now), says(now, classes))
    assert isinstance(compare(repository, "letters", *given), Finding)
    result = compare(repository, "letters", *given, renamed={"vowel": "soft"})
    assert isinstance(result, Comparison)
    assert (result.differing, result.previous_score) == (0, 1.0)


def test_a_name_that_the_earlier_version_has_already_is_not_given_twice(repository: ModelRepository) -> None:
    """Such as where another job has published with the same rename meanwhile."""
    given = (examples_of(TEXTS, ["vowel", "mark"] * 30), says(["vowel"] * 60))
    assert compare(repository, "letters", *given, renamed={"vowel": "mark"}) == compare(repository, "letters", *given)


@pytest.mark.parametrize("name", ["topics", "prices", "names", "follows", "likeness"])
@pytest.mark.parametrize("with_vectors", [False, True])
def test_every_task_is_compared_with_or_without_vectors(
    repository: ModelRepository, tiny_text: str, name: str, with_vectors: bool
) -> None:
    """Where the truth is what version 1 says, it has the highest score; a model that says something else has less."""
    version = repository.read(name, 1)
    predictor = predictor_of(repository, version)
    is_pair = version.manifest.pair is not None
    items: list[TextItem] = [(text, "another") if is_pair else text for text in TEXTS]
    items[7] = ("a", "b") if is_pair else "a \u200b b"  # the second word has no token
    own = predict(predictor, examples_of(items))
    examples = examples_of(items, own.answers)
    worse = replace(
        own, scores=[np.roll(scores, 1, axis=-1) if scores.shape[-1] > 1 else -scores for scores in own.scores]
    )
    vectors, engines = None, TorchEngines()
    if with_vectors:
        vectors = Vectors(
            backbone=version.manifest.backbone.digest,
            preprocessor=version.manifest.preprocessor,
            vectors_VD=predictor.features(items).numpy(),
            words=[np.flatnonzero(~np.isnan(scores_WC[:, 0])).tolist() for scores_WC in own.scores]
            if name == "names"
            else None,
        )
        engines = TorchEngines(no_engine)
    result = compare(repository, name, examples, worse, vectors=vectors, engines=engines)
    assert isinstance(result, Comparison), result
    assert result.metric == version.manifest.task.traits.primary_metric
    assert result.previous_score == pytest.approx(1.0)
    assert result.score < 0.9
    assert result.verdict == "worse"


def no_engine(stored: StoredBackbone) -> Engine:
    raise AssertionError("the vectors are known")


def test_vectors_of_another_backbone_are_not_used(repository: ModelRepository) -> None:
    version = repository.read("letters", 1)
    old = letters_that_version_1_says(repository)
    vectors = Vectors(
        backbone="0" * 64, preprocessor=version.manifest.preprocessor, vectors_VD=np.zeros((60, 16), dtype=np.float32)
    )
    result = compare(repository, "letters", examples_of(TEXTS, old), says(old), vectors=vectors)
    assert isinstance(result, Comparison)
    assert result.previous_score == 1.0


def test_the_first_version_has_none_before_it(repository: ModelRepository) -> None:
    assert compare(repository, "new", examples_of(TEXTS), says(["vowel"] * 60)) is None


@pytest.mark.parametrize(
    ("name", "classes", "items", "why"),
    [
        ("topics", LETTERS, TEXTS, "answers another task, multi-label"),
        ("follows", ("yes", "no", "maybe"), TEXTS, "reads pairs of texts"),
        ("letters", LETTERS, [(text, "b") for text in TEXTS], "reads texts"),
        ("letters", (*LETTERS, "<b>"), TEXTS, "does not know '<b>'"),
        ("letters", LETTERS[:3], TEXTS, "also knows 'mark'"),
    ],
)
def test_a_version_for_something_else_is_not_compared_and_it_says_why(
    repository: ModelRepository, name: str, classes: Sequence[str], items: list[TextItem], why: str
) -> None:
    result = compare(repository, name, examples_of(items), says([classes[0]] * len(items), classes))
    assert isinstance(result, Finding)
    assert (result.severity, result.code) == ("info", "not_compared")
    assert f"{name}:1 {why}" in result.message


def damage_head(repository: ModelRepository) -> None:
    file = repository.read("letters", 1).directory / "head.safetensors"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def damage_manifest(repository: ModelRepository) -> None:
    file = repository.read("letters", 1).directory / "manifest.json"
    file.chmod(0o644)
    file.write_text("{")


def remove_backbone(repository: ModelRepository) -> None:
    digest = repository.read("letters", 1).manifest.backbone.digest
    (repository.root / ".backbones" / digest).rename(repository.root / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_head, "head.safetensors is damaged"),
        (damage_manifest, "the manifest of letters:1 is damaged"),
        (remove_backbone, "is not in this repository"),
    ],
)
def test_a_version_that_cannot_be_loaded_is_a_finding(
    repository: ModelRepository, damage: Callable[[ModelRepository], None], why: str
) -> None:
    damage(repository)
    result = compare(repository, "letters", examples_of(TEXTS), says(["vowel"] * 60))
    assert isinstance(result, Finding)
    assert (result.severity, result.code) == ("warning", "not_compared")
    assert result.message.startswith("letters:1 is not compared with: ")
    assert why in result.message
    assert str(repository.root) not in result.message


def test_an_engine_that_fails_is_a_finding_without_its_words(
    repository: ModelRepository, caplog: pytest.LogCaptureFixture
) -> None:
    result = compare(repository, "letters", examples_of(TEXTS), says(["vowel"] * 60), engines=TorchEngines(no_engine))
    assert isinstance(result, Finding)
    assert result.message == "letters:1 is not compared with: it cannot be asked here"
    assert "the vectors are known" in caplog.text


def with_data(repository: ModelRepository, fingerprint: str, files: dict[str, bytes] | None = None) -> None:
    """A second version of ``letters`` that is the first one, trained on some data."""
    first = repository.read("letters", 1)
    data = Data(source="letters", fingerprint=fingerprint, train_size=1, test_size=1)
    names = [name for name in first.manifest.files if name != "README.md"]
    repository.publish(
        first.manifest.model_copy(update={"data": data, "created_at": datetime.now(UTC)}),
        {**{name: (first.directory / name).read_bytes() for name in names}, **(files or {})},
        check=lambda directory: None,
    )


@pytest.mark.parametrize(("fingerprint", "said"), [("same", False), ("other", True)])
def test_rows_that_the_old_version_may_have_learnt_from_are_a_caveat(
    repository: ModelRepository, fingerprint: str, said: bool
) -> None:
    with_data(repository, fingerprint)
    given = (examples_of(TEXTS, ["vowel"] * 60), says(["vowel"] * 60))
    result = compare(repository, "letters", *given, fingerprint="same")
    assert isinstance(result, Comparison)
    assert result.previous == "letters:2"
    assert (result.caveat is not None) is said
    assert ("may have been among its training rows" in "\n".join(result.markdown())) is said


@pytest.mark.parametrize("learnt", [0, 1, 25])
def test_rows_that_the_old_version_has_learnt_from_are_left_out(repository: ModelRepository, learnt: int) -> None:
    examples = examples_of(TEXTS, ["vowel", "mark"] * 30)
    with_data(repository, "other", {FILE: learnt_rows([*examples[60 - learnt :], *examples_of(["another"])])})
    result = compare(repository, "letters", examples, says(["vowel"] * 60))
    alone = compare(repository, "letters", examples[: 60 - learnt], says(["vowel"] * (60 - learnt)))
    assert isinstance(result, Comparison)
    assert result.rows == 60 - learnt
    assert result.caveat == (f"{learnt} test rows are left out, from which letters:2 has learnt" if learnt else None)
    assert isinstance(alone, Comparison)
    assert replace(result, caveat=None) == alone


def test_a_version_that_has_learnt_from_all_of_them_is_not_compared(repository: ModelRepository) -> None:
    examples = examples_of(TEXTS, ["vowel"] * 60)
    with_data(repository, "other", {FILE: learnt_rows(examples)})
    result = compare(repository, "letters", examples, says(["vowel"] * 60))
    assert isinstance(result, Finding)
    assert "letters:2 has learnt from every test row" in result.message


def test_an_imported_version_has_the_caveat_too(repository: ModelRepository) -> None:
    result = compare(repository, "letters", examples_of(TEXTS, ["vowel"] * 60), says(["vowel"] * 60))
    assert isinstance(result, Comparison)
    assert "was imported" in str(result.caveat)
