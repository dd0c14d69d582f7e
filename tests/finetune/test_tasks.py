"""Every task in miniature: from a table to a version, and from a version to the server's answers."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from finetune.cli import app
from finetune.job import run_job
from finetune.job_settings import JobSettings
from finetune.result import JobResult
from models.repository import ModelRepository
from models.task import Task
from tests.server_process import ServerProcess, ready_server
from tests.tiny_models import FINE, TwoPrecisions

LETTERS, DIGITS, MARKS = "abcdefgh", "0123456789", ".,!?"


def word(generator: random.Random, alphabet: str) -> str:
    return "".join(generator.choices(alphabet, k=generator.randint(3, 6)))


def kinds(generator: random.Random) -> dict[str, Any]:
    """A text holds digits, marks, both, or neither."""
    labels = [label for label in ("digits", "marks") if generator.random() < 0.5]
    alphabets = [{"digits": DIGITS, "marks": MARKS}[label] for label in labels] or [LETTERS]
    return {"text": " ".join(word(generator, alphabet) for alphabet in alphabets * 3), "label": labels}


def likeness(generator: random.Random) -> dict[str, Any]:
    """Two texts are alike if both are digits, or both letters."""
    one, other = generator.choice([LETTERS, DIGITS]), generator.choice([LETTERS, DIGITS])
    first, second = (" ".join(word(generator, alphabet) for _ in range(3)) for alphabet in (one, other))
    return {"text_a": first, "text_b": second, "score": (4.5 if one == other else 0.5) + generator.random() / 4}


def numbers(generator: random.Random) -> dict[str, Any]:
    """Words of digits are numbers, each on its own."""
    tokens = [word(generator, generator.choice([LETTERS, LETTERS, DIGITS])) for _ in range(6)]
    return {"tokens": tokens, "tags": ["B-number" if token[0] in DIGITS else "O" for token in tokens]}


def pairs_of_kinds(generator: random.Random) -> dict[str, Any]:
    """Whether two texts are of one kind."""
    row = likeness(generator)
    return {"premise": row["text_a"], "hypothesis": row["text_b"], "label": "same" if row["score"] > 2 else "other"}


TASKS = {"kinds": kinds, "likeness": likeness, "numbers": numbers, "sameness": pairs_of_kinds}
PRIMARY = {"kinds": "macro_f1", "likeness": "spearman", "numbers": "entity_f1", "sameness": "accuracy"}


def write(directory: Path, name: str, count: int = 160) -> Path:
    generator = random.Random(name)
    table = directory / f"{name}.jsonl"
    table.write_text("".join(json.dumps(TASKS[name](generator)) + "\n" for _ in range(count)))
    return table


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> JobSettings:
    directory = tmp_path_factory.mktemp("tasks")
    return JobSettings(engine="torch", data=directory, name="", cache_dir=directory / "cache", backbone=tiny_text)


@pytest.fixture(scope="module")
def repository(settings: JobSettings) -> ModelRepository:
    return ModelRepository(settings.data / "repository")


@pytest.fixture(scope="module")
def results(settings: JobSettings, repository: ModelRepository) -> Mapping[str, JobResult]:
    return {
        name: run_job(
            replace(settings, data=write(settings.data, name), name=name), repository, Console(file=io.StringIO())
        )
        for name in TASKS
    }


@pytest.mark.parametrize("name", TASKS)
def test_a_table_becomes_a_version_that_knows_its_task(results: Mapping[str, JobResult], name: str) -> None:
    result = results[name]
    manifest = result.version.manifest
    primary = PRIMARY[name]
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document[primary] > 0.6
    assert document["beats_chance"]
    low, high = document[f"{primary}_ci"]
    assert low <= document[primary] <= high
    assert manifest.reference.training is not None
    assert manifest.reference.training.validation_metric == primary
    assert manifest.reference.training.validation_score == pytest.approx(document[primary], abs=0.2)
    assert manifest.reference.metrics[primary] == document[primary]
    assert (manifest.pair is None) is (name in ("kinds", "numbers"))
    ModelRepository(result.version.directory.parents[1]).verify(result.version)


FIGURES = {
    "kinds": ["report/f1.png"],
    "likeness": ["report/values.png"],
    "numbers": ["report/f1.png"],
    "sameness": ["report/confusion_matrix.png", "report/reliability.png"],
}


@pytest.mark.parametrize(("name", "figures"), FIGURES.items())
def test_the_card_tells_figures_that_fit_the_task(
    results: Mapping[str, JobResult], name: str, figures: Sequence[str]
) -> None:
    version = results[name].version
    card = (version.directory / "README.md").read_text()
    for figure in figures:
        assert f"({figure})" in card
        assert (version.directory / figure).read_bytes().startswith(b"\x89PNG")
    assert f"{results[name].evaluation.summary()[PRIMARY[name]]:.3f}" in card
    assert "no evidence" not in card
    assert ("misleading" in card) is (name == "numbers")
    assert ("in 90 of 100 cases" in card) is (name == "likeness")
    assert ("Labels hold from a score of" in card) is (name == "kinds")


def test_a_rerun_gives_the_same_heads(
    settings: JobSettings, repository: ModelRepository, results: Mapping[str, JobResult]
) -> None:
    for name in ("kinds", "likeness", "numbers"):
        again = run_job(
            replace(settings, data=settings.data / f"{name}.jsonl", name=f"{name}-again"),
            repository,
            Console(file=io.StringIO()),
        )
        heads = [(each.version.directory / "head.safetensors").read_bytes() for each in (again, results[name])]
        assert heads[0] == heads[1]
        assert again.evaluation == results[name].evaluation


@pytest.fixture(scope="module")
def answering(results: Mapping[str, JobResult], repository: ModelRepository) -> Iterator[ServerProcess]:
    with ready_server(repository.root) as server:
        yield server


def predictions(process: ServerProcess, name: str, instances: Sequence[object]) -> Any:
    body = json.dumps({"instances": instances}).encode()
    reply = process.request("POST", f"/v1/models/{name}:predict", body, {"content-type": "application/json"})
    assert reply.status == 200, reply.body
    return reply.json()["predictions"]


def test_the_server_answers_what_was_learned(answering: ServerProcess) -> None:
    generator = random.Random("new")
    texts = [kinds(generator) for _ in range(30)]
    found = predictions(answering, "kinds", [row["text"] for row in texts])
    right = [sorted(each["labels"]) == row["label"] for each, row in zip(found, texts, strict=True)]
    assert np.mean(right) > 0.7

    pairs = [likeness(generator) for _ in range(30)]
    found = predictions(answering, "likeness", [[row["text_a"], row["text_b"]] for row in pairs])
    inside = [
        each["interval"][0] <= row["score"] <= each["interval"][1] for each, row in zip(found, pairs, strict=True)
    ]
    assert np.mean(inside) > 0.7
    assert np.corrcoef([each["value"] for each in found], [row["score"] for row in pairs])[0, 1] > 0.7

    sentences = [numbers(generator) for _ in range(30)]
    found = predictions(answering, "numbers", [" ".join(row["tokens"]) for row in sentences])
    said = [{entity["text"] for entity in each["entities"]} for each in found]
    right = [
        (token in own) is (tag == "B-number")
        for own, row in zip(said, sentences, strict=True)
        for token, tag in zip(row["tokens"], row["tags"], strict=True)
    ]
    assert np.mean(right) > 0.7
    for each, row in zip(found, sentences, strict=True):
        for entity in each["entities"]:
            assert entity["label"] == "number"
            assert entity["text"] in " ".join(row["tokens"])

    same = [pairs_of_kinds(generator) for _ in range(30)]
    found = predictions(
        answering, "sameness", [{"text": row["premise"], "text_pair": row["hypothesis"]} for row in same]
    )
    assert np.mean([each["label"] == row["label"] for each, row in zip(found, same, strict=True)]) > 0.7


def test_a_head_for_int8_must_not_lose_half_a_point_of_any_metric(
    settings: JobSettings, results: Mapping[str, JobResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.job._engines", lambda settings: TwoPrecisions(FINE))
    for name in ("likeness", "numbers"):
        told = replace(settings, data=settings.data / f"{name}.jsonl", name=name)
        version = run_job(told, ModelRepository(tmp_path), Console(file=io.StringIO())).version
        trainings = {precision: head.training for precision, head in version.manifest.heads.items()}
        scores = {precision: training.validation_score for precision, training in trainings.items() if training}
        assert len(scores) == 2
        lost = scores["fp32"] - scores["int8"]  # type: ignore[index]
        refused = version.manifest.heads["int8"].refused  # type: ignore[index]
        assert (refused is None) is (round(100 * lost, 9) <= 0.5)


@pytest.mark.parametrize("name", ["kinds", "likeness", "numbers"])
def test_labels_that_were_shuffled_are_reported_as_chance(
    settings: JobSettings, tmp_path: Path, name: str, results: Mapping[str, JobResult]
) -> None:
    rows = [json.loads(line) for line in (settings.data / f"{name}.jsonl").read_text().splitlines()]
    column = {"kinds": "label", "likeness": "score", "numbers": "tags"}[name]
    labels = [row[column] for row in rows]
    random.Random(3).shuffle(labels)
    table = tmp_path / f"{name}.jsonl"
    table.write_text(
        "".join(json.dumps({**row, column: label}) + "\n" for row, label in zip(rows, labels, strict=True))
    )
    output = CliRunner().invoke(
        app,
        f"finetune {table} --name {name} --backbone {settings.backbone} --engine torch --device cpu "
        f"--repository {tmp_path / 'repository'} --cache-dir {settings.cache_dir}",
    )
    assert output.exit_code == 0, output.output
    assert "nothing was learned" in output.output
    version = ModelRepository(tmp_path / "repository").read(name, 1)
    assert "gives no evidence that anything was learned" in (version.directory / "README.md").read_text()
    training = version.manifest.reference.training
    assert training is not None
    honest = results[name].version.manifest.reference.training
    assert honest is not None
    assert training.validation_score < honest.validation_score - 0.2


def test_the_task_of_a_version_is_that_of_its_data(results: Mapping[str, JobResult]) -> None:
    assert {name: result.version.manifest.task for name, result in results.items()} == {
        "kinds": Task.MULTI_LABEL,
        "likeness": Task.REGRESSION,
        "numbers": Task.TOKEN_CLASSIFICATION,
        "sameness": Task.SINGLE_LABEL,
    }
