"""Labels stay where they are, whatever comes, goes or is called otherwise."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from finetune.dataset import Dataset
from finetune.example import Label
from finetune.job import run_job
from finetune.job_settings import JobSettings
from finetune.label_history import LabelHistory, find_label_changes, parse_renames, sentence
from finetune.result import JobResult
from finetune.strategy import Strategy
from graftwork import app
from models.engine_factory import EngineFactory
from models.entities import is_tag
from models.errors import InvalidParameter
from models.manifest import Calibration, LabelChanges
from models.precision import Precision
from models.predictor import Predictor, read_head
from models.preprocessor import build_preprocessor
from models.repository import ModelRepository
from models.task import Task
from models.version import ModelVersion
from tests.finetune.datasets import dataset
from tests.models.versions import HEAD, manifest, place_backbone


def published(repository: ModelRepository, labels: tuple[str, ...], task: Task = Task.SINGLE_LABEL) -> ModelVersion:
    """A version that says so, and no more."""
    threshold, interval = (0.5 if task is Task.MULTI_LABEL else None), (1.0 if task is Task.REGRESSION else None)
    head = HEAD.model_copy(update={"calibration": Calibration(threshold=threshold, interval=interval)})
    document = manifest("m", labels=labels, task=task, heads={Precision.FP32: head})
    place_backbone(repository)
    return repository.publish(document, {"head.safetensors": b""}, check=lambda _: None)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "repository")


def of(*labels: Label, task: Task = Task.SINGLE_LABEL) -> Dataset:
    return dataset(*(("train", f"text {number}", label) for number, label in enumerate(labels)), task=task)


def relabelled(
    repository: ModelRepository, data: Dataset, renames: dict[str, str] | None = None
) -> tuple[Dataset, LabelChanges | None]:
    history = LabelHistory(repository, "m", renames or {})
    found = history.relabelled(data)
    return found, history.changes(found)


def test_a_first_version_has_its_labels_sorted(repository: ModelRepository) -> None:
    found, changes = relabelled(repository, of("b", "a", "c"))
    assert (found.classes, changes) == (("a", "b", "c"), None)


def test_labels_keep_their_places_and_new_ones_come_last(repository: ModelRepository) -> None:
    published(repository, ("d", "b", "z", "a"))
    found, changes = relabelled(repository, of("y", "a", "c", "b", "d"))
    assert found.classes == ("d", "b", "a", "c", "y")
    assert changes == LabelChanges(version=1, added=("c", "y"), removed=("z",))


def test_a_new_name_takes_the_place_of_the_old_one(repository: ModelRepository) -> None:
    published(repository, ("d", "b", "a"))
    for rows in (("a", "b", "d"), ("a", "new", "d"), ("a", "b", "new", "d")):
        found, changes = relabelled(repository, of(*rows), {"b": "new"})
        assert found.classes == ("d", "new", "a")
        assert {example.label for example in found.pool} == {"a", "d", "new"}
        assert changes == LabelChanges(version=1, renamed=(("b", "new"),))


def test_of_a_first_version_only_the_rows_are_renamed(repository: ModelRepository) -> None:
    found, changes = relabelled(repository, of("a", "b"), {"a": "c"})
    assert (found.classes, changes) == (("b", "c"), None)


def test_a_label_that_was_renamed_and_is_in_no_row_is_gone(repository: ModelRepository) -> None:
    published(repository, ("a", "b", "c"))
    found, changes = relabelled(repository, of("a", "c"), {"b": "new"})
    assert (found.classes, changes) == (("a", "c"), LabelChanges(version=1, removed=("b",)))


def test_labels_of_many_are_renamed_in_every_row(repository: ModelRepository) -> None:
    published(repository, ("x", "a", "b"), Task.MULTI_LABEL)
    found, changes = relabelled(repository, of(("a", "x"), (), ("b", "x"), task=Task.MULTI_LABEL), {"x": "0"})
    assert [example.label for example in found.pool] == [("0", "a"), (), ("0", "b")]
    assert found.classes == ("0", "a", "b")
    assert changes == LabelChanges(version=1, renamed=(("x", "0"),))


def test_entities_are_renamed_in_all_their_tags(repository: ModelRepository) -> None:
    published(repository, ("O", "B-PER", "I-PER", "B-LOC"), Task.TOKEN_CLASSIFICATION)
    rows = (("B-PER", "I-PER", "O"), ("B-LOC", "B-ORG", "I-ORG"))
    found, changes = relabelled(repository, of(*rows, task=Task.TOKEN_CLASSIFICATION), {"PER": "PERSON"})
    assert [example.label for example in found.pool] == [("B-PERSON", "I-PERSON", "O"), rows[1]]
    assert found.classes == ("O", "B-PERSON", "I-PERSON", "B-LOC", "B-ORG", "I-ORG")
    assert all(map(is_tag, found.classes))
    assert changes == LabelChanges(
        version=1, added=("B-ORG", "I-ORG"), renamed=(("B-PER", "B-PERSON"), ("I-PER", "I-PERSON"))
    )


def test_an_entity_may_be_called_what_words_outside_are_called(repository: ModelRepository) -> None:
    found, _ = relabelled(repository, of(("B-O", "O"), task=Task.TOKEN_CLASSIFICATION), {"O": "X"})
    assert found.classes == ("B-X", "O")


def test_a_regression_has_one_name_and_nothing_to_rename(repository: ModelRepository) -> None:
    published(repository, ("price",), Task.REGRESSION)
    data = replace(of(1.0, 2.5, task=Task.REGRESSION), target="cost")
    found, changes = relabelled(repository, data)
    assert (found.classes, changes) == (("cost",), LabelChanges(version=1, added=("cost",), removed=("price",)))
    with pytest.raises(InvalidParameter, match="leave out --rename"):
        relabelled(repository, data, {"price": "cost"})


def test_the_newest_readable_version_of_the_task_is_the_one_before(repository: ModelRepository) -> None:
    published(repository, ("c", "b", "a"))
    published(repository, ("a", "c", "b"), Task.MULTI_LABEL)
    (published(repository, ("b", "a", "c")).directory / "manifest.json").write_bytes(b"{")
    found, changes = relabelled(repository, of("a", "b", "c"))
    assert (found.classes, changes) == (("c", "b", "a"), LabelChanges(version=1))


def test_what_is_published_meanwhile_changes_nothing(repository: ModelRepository) -> None:
    published(repository, ("b", "a"))
    history = LabelHistory(repository, "m", {})
    found = history.relabelled(of("a", "b"))
    published(repository, ("a", "c"))
    assert history.changes(found) == LabelChanges(version=1)


@pytest.mark.parametrize(
    ("renames", "said"),
    [
        ({"roze": "x"}, r"^--rename: no label 'roze' is in the data nor in m:1; did you mean 'rose'"),
        ({"B-rose": "x"}, r"^--rename: no label 'B-rose' is in the data nor in m:1"),
        ({"rose": "oak"}, "^--rename: m:1 has a label 'oak' already; choose another name, or correct 'rose' in the"),
        ({"elm": "rose"}, "^--rename: m:1 has a label 'rose' already"),
        ({"rose": "x", "oak": "rose"}, "^--rename: m:1 has a label 'rose' already"),
    ],
)
def test_a_rename_that_does_not_fit_is_refused_with_the_cure(
    repository: ModelRepository, renames: dict[str, str], said: str
) -> None:
    published(repository, ("rose", "oak"))
    with pytest.raises(InvalidParameter, match=said):
        relabelled(repository, of("rose", "elm"), renames)


def test_a_tag_is_no_entity(repository: ModelRepository) -> None:
    data = of(("B-PER", "O"), task=Task.TOKEN_CLASSIFICATION)
    with pytest.raises(InvalidParameter, match="no label 'B-PER' is in the data; leave out B- and I-"):
        relabelled(repository, data, {"B-PER": "B-PERSON"})


@given(
    before=st.lists(st.sampled_from("abcdefg"), unique=True, min_size=1),
    now=st.sets(st.sampled_from("abcdefgh"), min_size=1),
)
def test_places_and_changes_go_together(before: list[str], now: set[str]) -> None:
    data = replace(of(*sorted(now)), known=tuple(before))
    kept = [label for label in data.classes if label in before]
    assert kept == [label for label in before if label in now]
    assert list(data.classes) == kept + sorted(now - set(before))


def test_renames_are_read_as_they_are_written() -> None:
    assert parse_renames(["a=b", "c d= e=f "]) == {"a": "b", "c d": " e=f "}
    assert parse_renames([]) == {}


@pytest.mark.parametrize("pair", ["", "a", "=", "a=", "=b", " =b", "a= ", "a=a"])
def test_other_words_are_no_rename(pair: str) -> None:
    with pytest.raises(InvalidParameter, match="write OLD=NEW"):
        parse_renames([pair])


@pytest.mark.parametrize("pairs", [["a=b", "a=c"], ["a=c", "b=c"]])
def test_each_label_has_one_name_and_each_name_one_label(pairs: list[str]) -> None:
    with pytest.raises(InvalidParameter, match="names a label that another --rename names"):
        parse_renames(pairs)


def test_changes_are_said_in_a_sentence() -> None:
    changes = LabelChanges(version=2, added=("c", "y"), removed=("z",), renamed=(("a", "\nb"),))
    assert sentence("m", changes) == (
        "since m:2, 'c', 'y' are new; 'z' is gone; 'a' is now called '\\nb'; the order is the same"
    )
    assert sentence("m", LabelChanges(version=2)) == "those of m:2"
    (finding,) = find_label_changes("m", changes)
    assert (finding.severity, finding.code, finding.count) == ("info", "labels_changed", 3)
    assert finding.message == f"labels: {sentence('m', changes)}"
    assert (
        find_label_changes("m", LabelChanges(version=1, renamed=(("a", "b"),))) == find_label_changes("m", None) == ()
    )


# The whole job

KINDS = {"digits": "12 45 ", "letters": "xx zz ", "vowels": "ae io "}


def write(file: Path, *kinds: str, **names: str) -> Path:
    rows = [f"{names.get(kind, kind)},{KINDS[kind] * (n % 5 + 1)}{n}" for kind in kinds for n in range(20)]
    file.write_text("\n".join(["label,text", *rows]) + "\n")
    return file


@pytest.fixture
def settings(tmp_path: Path, tiny_text: str) -> JobSettings:
    data = write(tmp_path / "kinds.csv", "digits", "vowels")
    return JobSettings(data=data, name="kinds", cache_dir=tmp_path / "cache", backbone=tiny_text, engine="torch")


def run(settings: JobSettings, repository: ModelRepository) -> tuple[JobResult, str]:
    console = io.StringIO()
    return run_job(settings, repository, Console(file=console, width=300)), console.getvalue()


def answers(repository: ModelRepository, version: ModelVersion, settings: JobSettings, *texts: str) -> list[str]:
    document = version.manifest
    stored = repository.backbones.get(document.backbone.digest)
    predictor = Predictor(
        preprocessor=build_preprocessor(document.preprocessor, stored.directory),
        engine=EngineFactory("cpu", threads=1, cache_dir=settings.cache_dir, wanted="torch").build(stored),
        head=read_head(version.directory, document),
        labels=document.labels,
        calibration=document.reference.calibration,
    )
    return [document.labels[index] for index in predictor.predict(list(texts)).argmax(1).tolist()]


def test_a_class_in_the_middle_of_the_alphabet_moves_no_other(
    settings: JobSettings, repository: ModelRepository
) -> None:
    first, _ = run(settings, repository)
    assert first.version.manifest.labels == ("digits", "vowels")
    assert first.version.manifest.label_changes is None

    write(settings.data, *KINDS)
    second, said = run(settings, repository)
    document = repository.read("kinds", 2).manifest
    assert document.labels == ("digits", "vowels", "letters")
    assert document.label_changes == LabelChanges(version=1, added=("letters",))
    assert "labels_changed" in said
    assert document.data is not None
    assert "labels_changed" in {finding["code"] for finding in document.data.findings}
    card = (second.version.directory / "README.md").read_text()
    assert "Labels: since kinds:1, 'letters' is new; the order is the same." in card
    asked = [KINDS[label] * 3 for label in document.labels]
    assert answers(repository, second.version, settings, *asked) == list(document.labels)
    assert second.evaluation.accuracy > 0.9
    assert second.to_dict()["label_changes"] == {"version": 1, "added": ["letters"], "removed": [], "renamed": []}

    renamed, said = run(replace(settings, renames={"digits": "numbers"}), repository)
    assert renamed.version.manifest.labels == ("numbers", "vowels", "letters")
    assert renamed.version.manifest.label_changes == LabelChanges(version=2, renamed=(("digits", "numbers"),))
    assert answers(repository, renamed.version, settings, *asked) == ["numbers", "vowels", "letters"]
    assert "labels_changed" not in said
    assert renamed.comparison is not None  # the earlier version's digits count as numbers
    assert (renamed.comparison.previous, renamed.comparison.differing) == ("kinds:2", 0)


def test_a_backbone_that_learns_keeps_the_order_too(settings: JobSettings, repository: ModelRepository) -> None:
    run(settings, repository)
    write(settings.data, *KINDS)
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 8}
    result, _ = run(replace(settings, strategy=Strategy.FULL, recipe=recipe), repository)
    assert result.version.manifest.labels == ("digits", "vowels", "letters")
    assert result.evaluation.accuracy > 0.9


def test_the_command_line_renames_and_shows_what_changed(
    settings: JobSettings, repository: ModelRepository, tiny_text: str
) -> None:
    def invoke(*arguments: str) -> tuple[int, str]:
        where = {
            "GRAFTWORK_REPOSITORY": str(repository.root),
            "GRAFTWORK_CACHE_DIR": str(settings.cache_dir),
            "COLUMNS": "200",
        }
        result = CliRunner().invoke(app, list(arguments), env=where)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout

    command = ("finetune", str(settings.data), "--name", "kinds", "--backbone", tiny_text, "--engine", "torch")
    code, printed = invoke(*command)
    assert code == 0
    assert "labels:" not in printed
    code, printed = invoke(*command, "--rename", "vowels=soft sounds", "--rename", "digits=numbers")
    assert code == 0
    assert (
        "\n  labels: since kinds:1, 'digits' is now called 'numbers'; 'vowels' is now called 'soft sounds'; " in printed
    )
    shown = json.loads(invoke("models", "show", "kinds", "--json")[1])
    assert shown["labels"] == ["numbers", "soft sounds"]
    assert shown["label_changes"]["renamed"] == [["digits", "numbers"], ["vowels", "soft sounds"]]
    assert "'digits' is now called 'numbers'" in invoke("models", "show", "kinds")[1]
    with pytest.raises(InvalidParameter, match="kinds:2 has a label 'numbers' already"):
        invoke(*command, "--rename", "digits=numbers")
    assert repository.numbers("kinds") == [1, 2]
