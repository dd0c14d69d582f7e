"""What ``graftwork models export`` refuses, and what an export leaves behind that did not come about."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from graftwork import app
from models import storage
from models.errors import (
    ExportFailed,
    InvalidParameter,
    NotSupported,
    StorageFailed,
    VersionCorrupt,
    VersionNotFound,
)
from service.export.placing import staged_beside
from service.export.version_module import VersionModule
from tests.service.export.exporting import export, files, refusal

FORMS = ["onnx", "triton", "huggingface"]


def wrong(module: VersionModule, *inputs: torch.Tensor) -> Any:
    """A graph whose last label is a little likelier than it should be."""
    logits, probabilities, embedding = right(module, *inputs)
    return logits, probabilities + torch.tensor([0.0] * (probabilities.shape[-1] - 1) + [2e-4]), embedding


right = VersionModule.forward


@pytest.mark.parametrize("form", ["onnx", "triton"])
def test_a_graph_that_answers_in_another_way_is_refused_and_nothing_is_left(
    form: str, models_on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VersionModule, "forward", wrong)
    message = refusal(ExportFailed, models_on_disk, "letters", form, tmp_path / "out")
    assert "probabilities of the export differs by 0.0002" in message
    assert list(tmp_path.iterdir()) == []


def test_weights_that_answer_in_another_way_are_refused_and_nothing_is_left(
    models_on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.export import head_file, timm_export

    def changed(subject: Any) -> Any:
        head = folded(subject)
        head.bias_C[0] += 1e-2
        return head

    folded = head_file.folded
    monkeypatch.setattr(head_file, "folded", changed)
    monkeypatch.setattr(timm_export, "folded", changed)
    for name in ("letters", "colours"):
        message = refusal(ExportFailed, models_on_disk, name, "huggingface", tmp_path / "out")
        assert message.startswith("probabilities of the export differs")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_an_export_is_whole_or_not_there_wherever_it_is_stopped(
    form: str, models_on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(storage, "trace", steps.append)
    export(models_on_disk, "letters", form, tmp_path / "whole")
    whole = files(tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole")
    writing = [index for index, step in enumerate(steps) if step in ("open", "rename", "mkdir")]
    for last in (writing[0], writing[len(writing) // 2], writing[-1]):
        left = [last]

        def fail(step: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0 and step != "remove":
                raise OSError(28, os.strerror(28))

        monkeypatch.setattr(storage, "trace", fail)
        message = refusal(StorageFailed, models_on_disk, "letters", form, tmp_path / "out")
        assert message == "the export cannot be written: No space left on device"
        monkeypatch.setattr(storage, "trace", None)
        assert {path.name for path in tmp_path.iterdir()} <= {"out"}
        # A backbone that is there before its version is whole by itself.
        found = files(tmp_path / "out")
        assert found in (set(), {name for name in whole if name.startswith("backbone-")})
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


@pytest.mark.parametrize("form", ["onnx", "huggingface"])
def test_a_directory_with_something_in_it_is_left_alone(form: str, models_on_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(models_on_disk, "letters", form, tmp_path / "out")
    before = files(tmp_path / "out")
    message = refusal(InvalidParameter, models_on_disk, "moods", form, tmp_path / "out")
    assert message == f"{tmp_path / 'out'} is not empty; name a new directory"
    assert files(tmp_path / "out") == before
    assert "no directory" in refusal(InvalidParameter, models_on_disk, "moods", form, tmp_path / "out" / "README.md")


@pytest.mark.parametrize("form", ["onnx", "huggingface"])
def test_a_volume_is_not_taken_for_a_new_directory(
    form: str, models_on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "out")
    message = refusal(InvalidParameter, models_on_disk, "letters", form, tmp_path / "out")
    assert message == f"{tmp_path / 'out'} is a volume of its own; name a new directory in it"


def test_an_export_is_staged_where_a_link_leads(models_on_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "out").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "out")
    with staged_beside(tmp_path / "link") as staged:
        assert staged.parent == tmp_path / "elsewhere"
    export(models_on_disk, "letters", "onnx", tmp_path / "link")
    assert "model.onnx" in files(tmp_path / "elsewhere" / "out")


def test_the_repository_that_versions_come_from_takes_no_models_of_triton(models_on_disk: Path) -> None:
    before = files(models_on_disk)
    message = refusal(InvalidParameter, models_on_disk, "letters", "triton", models_on_disk, "--backbone-only")
    assert "is a model repository of Graftwork" in message
    assert files(models_on_disk) == before


@pytest.mark.parametrize("option", [["--backbone-only"], ["--backend", "python"]])
def test_options_of_triton_are_for_triton(option: list[str], models_on_disk: Path, tmp_path: Path) -> None:
    message = refusal(InvalidParameter, models_on_disk, "letters", "onnx", tmp_path / "out", *option)
    assert message == "--backend and --backbone-only are for --format triton"


def test_a_version_that_is_damaged_or_not_there_is_not_exported(models_on_disk: Path, tmp_path: Path) -> None:
    refusal(VersionNotFound, models_on_disk, "letters:7", "onnx", tmp_path / "out")
    shutil.copytree(models_on_disk, tmp_path / "repository")
    head = tmp_path / "repository" / "letters" / "1" / "head.safetensors"
    head.write_bytes(head.read_bytes()[:-4] + b"abcd")
    refusal(VersionCorrupt, tmp_path / "repository", "letters", "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_told_with_its_cure(
    models_on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.import_module

    def without(name: str, *arguments: Any) -> ModuleType:
        if name == "onnxruntime":
            raise ModuleNotFoundError(name)
        return find(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", without)
    message = refusal(NotSupported, models_on_disk, "letters", "onnx", tmp_path / "out")
    assert message == "an export needs onnxruntime; pip install graftwork[export]"
    assert list(tmp_path.iterdir()) == []


def test_a_table_says_how_far_answers_are_apart(models_on_disk: Path, tmp_path: Path) -> None:
    arguments = ["--format", "triton", "--to", str(tmp_path / "out"), "--repository", str(models_on_disk)]
    done = CliRunner().invoke(app, ["models", "export", "letters", *arguments])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["exported", "output", "vectors", "largest", "difference", "tolerated"]
    assert [line.split()[1] for line in lines[2:-1]] == ["features", "logits", "probabilities", "embedding"]
    assert lines[-1] == f"letters:1 is exported to {tmp_path / 'out'}: the same answers within what is tolerated"
