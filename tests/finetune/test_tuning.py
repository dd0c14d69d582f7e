"""Jobs whose backbone learns, in miniature."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import finetune.tuning
from finetune.job import run_job
from finetune.job_settings import JobSettings
from finetune.result import JobResult
from finetune.strategy import Strategy
from finetune.training.run import Run, Trained
from finetune.training.trainer import DIVERGED
from models.errors import InvalidParameter
from models.precision import Precision
from models.repository import ModelRepository
from service.worker.registry import Registry
from tests.finetune.training.runs import pictures, texts
from tests.tiny_models import FINE, TorchEngines, TwoPrecisions

QUICKLY = {"epochs": 12, "patience": 12, "batch_size": 8, "learning_rate": 3e-3}


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.job._engines", lambda settings: TorchEngines())


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "repository")


@pytest.fixture
def text_job(tmp_path: Path, tiny_text: str) -> JobSettings:
    rows = [f"{example.text},{example.label}\n" for example in texts(100)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(rows))
    return JobSettings(data=tmp_path / "texts.csv", name="texts", cache_dir=tmp_path / "cache", backbone=tiny_text)


def run(settings: JobSettings, repository: ModelRepository, strategy: Strategy, **recipe: Any) -> tuple[JobResult, str]:
    """The result, and what was said on the way."""
    output = io.StringIO()
    settings = JobSettings(**{**vars(settings), "strategy": strategy, "recipe": {**QUICKLY, **recipe}})
    return run_job(settings, repository, Console(file=output, width=200)), output.getvalue()


@pytest.mark.parametrize("strategy", [Strategy.PARTIAL, Strategy.FULL, Strategy.LORA])
def test_a_version_of_a_trained_backbone_is_published_and_served(
    text_job: JobSettings, repository: ModelRepository, strategy: Strategy
) -> None:
    first, _ = run(text_job, repository, strategy, trained_groups=1)
    manifest = first.version.manifest
    training = manifest.reference.training
    assert training is not None
    assert (training.strategy, training.validated_on) == (strategy, "validation split")
    assert training.settings["learning_rate"] == 3e-3
    assert len(repository.backbones.list()) == 2
    assert manifest.backbone.digest != _pretrained(text_job, repository)
    log = [json.loads(line) for line in (first.version.directory / "report/training.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in log} == {"step", "validation"}
    (best,) = (line for line in log if (line["kind"], line["epoch"]) == ("validation", training.settings["best_epoch"]))
    assert best["score"] == training.validation_score
    assert manifest.data is not None
    assert "few_validation_rows" in {finding["code"] for finding in manifest.data.findings}  # there are a dozen

    loaded = Registry(repository, TorchEngines()).load("texts", 1)  # its golden answers are checked
    assert loaded.backbone == manifest.backbone.digest
    assert not list((text_job.cache_dir / "runs").iterdir())  # what was kept for a restart

    again, _ = run(text_job, repository, strategy, trained_groups=1)
    assert again.version.number == 2
    assert again.version.manifest.backbone == manifest.backbone  # bit for bit, so it is stored once
    head = "head.safetensors"
    assert (again.version.directory / head).read_bytes() == (first.version.directory / head).read_bytes()


def _pretrained(settings: JobSettings, repository: ModelRepository) -> str:
    from models.backbone_store import BackboneStore
    from models.sources import fetch_checkpoint

    assert settings.backbone is not None
    return BackboneStore(repository.root / ".backbones").add(fetch_checkpoint(settings.backbone)).digest


def test_pictures_too(tmp_path: Path, repository: ModelRepository, tiny_vision: str) -> None:
    (tmp_path / "loose").mkdir()
    for example in pictures(60, tmp_path / "loose"):
        assert example.path is not None
        folder = tmp_path / "pictures" / str(example.label)
        folder.mkdir(parents=True, exist_ok=True)
        example.path.rename(folder / example.path.name)
    settings = JobSettings(
        data=tmp_path / "pictures", name="pictures", cache_dir=tmp_path / "cache", backbone=tiny_vision
    )
    result, _ = run(settings, repository, Strategy.FULL)
    Registry(repository, TorchEngines()).load("pictures", result.version.number)


def test_a_backbone_that_gained_nothing_is_not_published(text_job: JobSettings, repository: ModelRepository) -> None:
    result, said = run(text_job, repository, Strategy.FULL, learning_rate=1e-12)
    training = result.version.manifest.reference.training
    assert training is not None
    assert training.strategy == "probe"
    assert result.version.manifest.backbone.digest == _pretrained(text_job, repository)
    assert len(repository.backbones.list()) == 1
    assert "learning was no better than a head on frozen features" in said
    assert result.version.manifest.data is not None
    assert "nothing_gained" in {finding["code"] for finding in result.version.manifest.data.findings}


def test_the_trained_head_serves_in_int8_too_if_it_loses_little(
    text_job: JobSettings, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.job._engines", lambda settings: TwoPrecisions(FINE))
    result, _ = run(text_job, repository, Strategy.FULL)
    assert result.version.manifest.heads[Precision.INT8].refused is None


class Watched:
    """The runs of a job: how many examples each learnt from, and how many judged it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: list[tuple[int, int]] = []
        self._train = finetune.tuning.train
        monkeypatch.setattr("finetune.tuning.train", self)

    def __call__(self, run: Run, *arguments: Any, **options: Any) -> Trained:
        self.runs.append((len(run.learn.examples), 0 if run.validate is None else len(run.validate.examples)))
        return self._train(run, *arguments, **options)


def few(settings: JobSettings, **recipe: Any) -> JobSettings:
    chosen = {"epochs": 12, "batch_size": 8, "learning_rate": 3e-3, **recipe}
    return replace(settings, strategy=Strategy.FULL, recipe=chosen)


def test_few_rows_are_all_learnt_from_and_those_that_judged_calibrate(
    text_job: JobSettings, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, console = Watched(monkeypatch), Console(file=io.StringIO(), width=200)
    all_of_them = run_job(few(text_job), repository, console).version
    (learnt, judged), (every, none) = watched.runs
    assert (every, none) == (learnt + judged, 0)
    training = all_of_them.manifest.reference.training
    assert training is not None
    assert (training.settings["refit"], training.settings["best_epoch"]) == (True, 12)
    log = [json.loads(line) for line in (all_of_them.directory / "report/training.jsonl").read_text().splitlines()]
    assert log[-1]["score"] == training.validation_score  # of the run that had not seen those rows
    assert f"learnt again from all {every} examples" in (all_of_them.directory / "README.md").read_text()
    assert len(repository.backbones.list()) == 2  # the pretrained one, and the one that is served
    assert not list((text_job.cache_dir / "runs").iterdir())
    Registry(repository, TorchEngines()).load("texts", 1)

    part = run_job(few(text_job, refit=False), repository, console).version.manifest
    assert len(watched.runs) == 3
    assert part.backbone != all_of_them.manifest.backbone
    again = run_job(few(text_job), repository, console).version.manifest
    assert again.backbone == all_of_them.manifest.backbone


def test_a_second_run_that_diverges_leaves_the_first(
    text_job: JobSettings, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, real = Console(file=io.StringIO(), width=200), finetune.tuning.train
    refitted = run_job(few(text_job), repository, console).version.manifest

    def train(run: Run, *arguments: Any, **options: Any) -> Trained:
        found = real(run, *arguments, **options)
        return found if run.validate else replace(found, outcome=replace(found.outcome, stopped=DIVERGED))

    monkeypatch.setattr("finetune.tuning.train", train)
    version = run_job(few(text_job), repository, console).version
    assert version.manifest.data is not None
    assert "diverged" in {finding["code"] for finding in version.manifest.data.findings}
    assert "learnt again" not in (version.directory / "README.md").read_text()
    assert not list((text_job.cache_dir / "runs").iterdir())
    one, other = version.manifest.reference.training, refitted.reference.training
    assert one is not None
    assert other is not None
    assert one.validation_score == other.validation_score  # of the first run in both
    assert version.manifest.backbone != refitted.backbone


@pytest.mark.parametrize("reason", ["patience", "rows", "val"])
def test_rows_that_judge_are_not_learnt_from_otherwise(
    text_job: JobSettings, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str
) -> None:
    """Where the user says when to stop, or which rows are to judge, or there are enough."""
    watched = Watched(monkeypatch)
    settings = few(text_job, **({"patience": 12} if reason == "patience" else {}))
    if reason == "rows":
        monkeypatch.setattr("finetune.training.recipe.REFIT_ROWS", 50)
    if reason == "val":
        lines = text_job.data.read_text().splitlines(keepends=True)
        for name, part in (("train", lines[1:61]), ("val", lines[61:81]), ("test", lines[81:])):
            (tmp_path / "splits").mkdir(exist_ok=True)
            (tmp_path / "splits" / f"{name}.csv").write_text("".join([lines[0], *part]))
        settings = replace(settings, data=tmp_path / "splits")
    run_job(settings, repository, Console(file=io.StringIO(), width=200))
    assert len(watched.runs) == 1


def test_options_of_training_are_none_of_the_probe(text_job: JobSettings, repository: ModelRepository) -> None:
    with pytest.raises(InvalidParameter, match=r"--epochs.*partial, full and lora"):
        run(text_job, repository, Strategy.PROBE)


def test_j13_a_bound_is_told_before_the_data_is_read(text_job: JobSettings, repository: ModelRepository) -> None:
    settings = JobSettings(**{**vars(text_job), "data": Path("nowhere")})
    with pytest.raises(InvalidParameter, match="--learning-rate"):
        run(settings, repository, Strategy.FULL, learning_rate=7.0)


def test_a_run_says_how_it_compares_with_the_version_before(text_job: JobSettings, repository: ModelRepository) -> None:
    first, _ = run(text_job, repository, Strategy.FULL)
    again, _ = run(text_job, repository, Strategy.FULL)
    assert first.comparison is None
    assert again.comparison is not None
    assert again.comparison.difference == 0
    assert (
        again.comparison.sentence[0].upper() + again.comparison.sentence[1:]
        in (again.version.directory / "README.md").read_text()
    )
