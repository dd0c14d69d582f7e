"""The whole job on tiny real backbones: from files to a version that answers as its evaluation says."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tokenizers import Tokenizer

from finetune.checks import Policy
from finetune.job import run_job
from finetune.job_settings import JobSettings
from finetune.result import JobResult
from finetune.strategy import Strategy
from models.errors import BackboneNotFound, DatasetInvalid, InvalidParameter
from models.precision import Precision
from models.predictor import Predictor, read_head
from models.preprocessor import build_preprocessor
from models.repository import ModelRepository
from models.torch_engine import TorchEngine
from tests.tiny_models import FINE, USELESS, NoGraph, TwoPrecisions

SOUNDS = {"dog": "barking", "cat": "mewing"}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 230)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve plain photographs of each colour, no two alike."""
    from PIL import Image

    for label, (red, green, blue) in COLOURS.items():
        directory = tmp_path / "photos" / label
        directory.mkdir(parents=True)
        for index in range(12):
            Image.new("RGB", (40 + index, 40), (red + index, green + index, blue + index)).save(
                directory / f"{index}.png"
            )
    return tmp_path / "photos"


@pytest.fixture
def settings(tmp_path: Path, photos: Path, tiny_vision: str) -> JobSettings:
    return JobSettings(engine="torch", data=photos, name="colours", cache_dir=tmp_path / "cache", backbone=tiny_vision)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "repository")


def run(settings: JobSettings, repository: ModelRepository) -> JobResult:
    return run_job(settings, repository, Console(file=io.StringIO()))


def test_a_folder_becomes_a_version_that_answers(
    settings: JobSettings, repository: ModelRepository, photos: Path
) -> None:
    result = run(settings, repository)

    assert str(result.version) == "colours:1"
    assert result.evaluation.accuracy == 1.0
    assert (result.train_size, result.test_size) == (30, 6)
    manifest = result.version.manifest
    assert manifest.labels == ("blue", "green", "red")
    assert manifest.reference.metrics["accuracy"] == 1.0
    assert manifest.data is not None
    assert manifest.data.test_size == 6
    repository.verify(repository.read("colours", 1))
    assert {"README.md", "report/confusion_matrix.png", "report/reliability.png"} <= set(manifest.files)

    stored = repository.backbones.get(manifest.backbone.digest)
    predictor = Predictor(
        preprocessor=build_preprocessor(manifest.preprocessor, stored.directory),
        engine=TorchEngine(stored.load()),
        head=read_head(result.version.directory, manifest),
        labels=manifest.labels,
        calibration=manifest.reference.calibration,
    )
    items = [(photos / label / "3.png").read_bytes() for label in manifest.labels]
    assert predictor.predict(items).argmax(1).tolist() == [0, 1, 2]


def test_a_backbone_from_scratch_is_made_of_the_training_texts(
    settings: JobSettings, repository: ModelRepository, tmp_path: Path
) -> None:
    table = tmp_path / "animals.csv"
    rows = [
        f"the {animal} number {index} is {noise},{animal}" for animal, noise in SOUNDS.items() for index in range(10)
    ]
    table.write_text("\n".join(["text,label", *rows]))
    from_scratch = replace(
        settings, data=table, backbone="scratch:lstm", strategy=Strategy.FULL, recipe={"epochs": 1, "batch_size": 4}
    )
    result = run(from_scratch, repository)
    stored = repository.backbones.get(result.version.manifest.backbone.digest)
    assert (stored.config.source, stored.config.architecture) == ("scratch:lstm", "lstm")
    tokenizer = Tokenizer.from_file(str(stored.directory / "tokenizer.json"))
    assert tokenizer.encode("barking and mewing").tokens == ["Ġbarking", *tokenizer.encode(" and").tokens, "Ġmewing"]


def test_a_backbone_from_scratch_reads_texts_only(settings: JobSettings, repository: ModelRepository) -> None:
    with pytest.raises(BackboneNotFound, match="learns from the texts"):
        run(replace(settings, backbone="scratch:lstm", strategy=Strategy.FULL), repository)
    with pytest.raises(InvalidParameter, match="--strategy full"):
        run(replace(settings, backbone="scratch:lstm"), repository)


def test_a_rerun_gives_the_same_head_bit_for_bit_with_and_without_the_cache(
    settings: JobSettings, repository: ModelRepository, tmp_path: Path
) -> None:
    first = run(settings, repository)
    cached = run(settings, repository)
    fresh = run(replace(settings, cache_dir=tmp_path / "another"), repository)
    heads = [(r.version.directory / "head.safetensors").read_bytes() for r in (first, cached, fresh)]
    assert [r.version.number for r in (first, cached, fresh)] == [1, 2, 3]
    assert heads[0] == heads[1] == heads[2]


def test_the_json_has_every_figure_with_its_interval(settings: JobSettings, repository: ModelRepository) -> None:
    document = json.loads(json.dumps(run(settings, repository).to_dict()))
    assert {"model", "version", "task", "classes", "train_size", "test_size", "seconds", "path"} <= set(document)
    for figure in ("accuracy", "macro_f1", "ece", "accuracy_deduplicated"):
        low, high = document[f"{figure}_ci"]
        assert 0 <= low <= document[figure] <= high <= 1
    assert document["classes"] == 3


def test_duplicates_across_given_splits_are_reported_and_scored_apart(
    settings: JobSettings, repository: ModelRepository, photos: Path
) -> None:
    for label in COLOURS:
        (photos / "train").mkdir(exist_ok=True)
        (photos / label).rename(photos / "train" / label)
        test = photos / "test" / label
        test.mkdir(parents=True)
        for index in (0, 1, 2):
            (photos / "train" / label / f"{index}.png").rename(test / f"{index}.png")
        (photos / "train" / label / "again.png").write_bytes((test / "0.png").read_bytes())

    result = run(settings, repository)
    assert (result.evaluation.rows, result.deduplicated.rows) == (9, 6)
    assert result.version.manifest.data is not None
    assert "duplicates_across_splits" in {finding["code"] for finding in result.version.manifest.data.findings}
    with pytest.raises(DatasetInvalid):
        run(replace(settings, policy=Policy(strict=True)), repository)
    assert repository.numbers("colours") == [1]


def test_data_that_cannot_be_used_is_refused_before_a_backbone_is_touched(
    settings: JobSettings, repository: ModelRepository, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetInvalid):
        run(replace(settings, data=tmp_path / "empty", backbone="timm:no_such_model"), repository)
    assert not repository.root.exists()


def test_a_backbone_for_another_modality_is_refused_by_name(
    settings: JobSettings, repository: ModelRepository, tiny_text: str
) -> None:
    with pytest.raises(InvalidParameter, match="reads texts and the data holds images"):
        run(replace(settings, backbone=tiny_text), repository)


def test_texts_that_are_too_long_are_cut_and_counted(
    settings: JobSettings, repository: ModelRepository, tiny_text: str, tmp_path: Path
) -> None:
    rows = [
        f"{'vowels' if n % 2 else 'digits'},{('a e i o u ' if n % 2 else '1 2 3 4 5 ') * (n + 1)}" for n in range(24)
    ]
    table = tmp_path / "texts.csv"
    table.write_text("label,text\n" + "\n".join(rows) + "\n")
    result = run(replace(settings, data=table, name="kinds", backbone=tiny_text), repository)
    assert result.version.manifest.data is not None
    (finding,) = (f for f in result.version.manifest.data.findings if f["code"] == "long_text")
    assert finding["count"] == 12  # 62 words of one letter fit beside [CLS] and [SEP]


def test_a_head_for_int8_is_published_if_it_loses_little(
    settings: JobSettings, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.job._engines", lambda settings: TwoPrecisions(FINE))
    result = run(settings, repository)
    heads = result.version.manifest.heads
    assert set(heads) == set(Precision)
    assert heads[Precision.INT8].refused is None
    assert heads[Precision.INT8].engine.identity == "coarse/cpu/int8"
    assert heads[Precision.INT8].metrics["accuracy"] == 1.0
    assert (result.version.directory / "head-int8.safetensors").exists()
    described = result.to_dict()["precisions"]
    assert described["int8"] == {
        "validation_metric": "accuracy",
        "validation_score": 1.0,
        "accuracy": 1.0,
        "refused": None,
    }
    assert "| int8 | 1.000 | 1.000 |  | yes |" in (result.version.directory / "README.md").read_text()


def test_a_head_for_int8_that_loses_much_is_refused_and_it_is_said(
    settings: JobSettings, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.job._engines", lambda settings: TwoPrecisions(FINE))
    monkeypatch.setattr("finetune.fit.MOST_POINTS_LOST", -1)  # to lose nothing is too much
    output = io.StringIO()
    version = run_job(settings, repository, Console(file=output, width=200)).version
    record = version.manifest.heads[Precision.INT8]
    assert record.training is not None
    assert record.refused is not None
    assert record.refused in output.getvalue()
    assert record.refused in (version.directory / "README.md").read_text()
    assert not list(version.directory.rglob("*int8*"))
    repository.verify(version)


def test_features_that_are_all_the_same_in_int8_are_no_reason_to_fail(
    settings: JobSettings, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.job._engines", lambda settings: TwoPrecisions(USELESS))
    output = io.StringIO()
    version = run_job(settings, repository, Console(file=output, width=200)).version
    assert set(version.manifest.heads) == {Precision.FP32}
    assert "it will not be served in int8: nothing can be held out" in output.getvalue()


def test_int8_that_does_not_run_here_is_no_reason_to_fail(
    settings: JobSettings,
    repository: ModelRepository,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("finetune.job._engines", lambda settings: NoGraph(FINE))
    output = io.StringIO()
    version = run_job(settings, repository, Console(file=output, width=200)).version
    assert set(version.manifest.heads) == {Precision.FP32}
    assert "it will not be served in int8: it does not run here" in output.getvalue()
    assert "Unable to read the model" in caplog.text
