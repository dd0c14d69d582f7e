"""A model repository of Triton: versions beside each other, backbones once."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import pytest
import torch

from models.errors import Conflict, ExportFailed, InvalidParameter
from models.features import FeatureKind
from models.graph import graph_inputs
from models.repository import ModelRepository
from models.storage import sha256_file
from service.export.triton_config import read_config
from service.triton.backbone_model import DIGEST_PARAMETER, BackboneModel
from tests.service.export.exporting import close, export, files, refusal, subject
from tests.tiny_models import LETTERS, publish_texts


@pytest.fixture
def growing(texts_on_disk: ModelRepository) -> ModelRepository:
    """A repository that takes further versions."""
    return texts_on_disk


def published(repository: ModelRepository, tiny_text: str, labels: Sequence[str] = LETTERS) -> None:
    publish_texts(repository, tiny_text, "letters", labels, seed=9)


def test_a_version_and_its_backbone_are_models_of_triton(models_on_disk: Path, tmp_path: Path) -> None:
    exports = export(models_on_disk, "colours", "triton", tmp_path / "out")
    version = subject(models_on_disk, "colours")
    backbone = BackboneModel.of(version.stored.digest, version.stored.config)
    assert [each["path"] for each in exports] == [
        str(tmp_path / "out" / backbone.name / "1"),
        str(tmp_path / "out" / "colours" / "1"),
    ]
    assert files(tmp_path / "out") == {
        *(f"{backbone.name}/{name}" for name in ("config.pbtxt", "1/model.onnx", "1/export-report.json")),
        *(f"colours/{name}" for name in ("config.pbtxt", "labels.txt", "1/model.onnx", "1/export-report.json")),
    }
    assert (tmp_path / "out" / "colours" / "labels.txt").read_text() == "red\ngreen\nblue\n"
    assert read_config(tmp_path / "out" / "colours").backend == "onnxruntime"


@pytest.mark.parametrize(("name", "kind"), [("letters", FeatureKind.POOLED), ("names", FeatureKind.TOKENS)])
def test_a_backbone_alone_is_what_its_specification_says(
    name: str, kind: FeatureKind, tasks_on_disk: Path, tmp_path: Path
) -> None:
    export(tasks_on_disk, name, "triton", tmp_path, "--backbone-only", "--backend", "python")
    version = subject(tasks_on_disk, name)
    model = BackboneModel.of(version.stored.digest, version.stored.config, kind)
    assert {each.split("/")[0] for each in files(tmp_path)} == {model.name}
    config = read_config(tmp_path / model.name)
    assert (config.name, config.backend) == (model.name, "python")
    assert config.parameters[DIGEST_PARAMETER].string_value == model.digest
    assert [(each.name, list(each.dims)) for each in config.input] == [(e.name, list(e.dims)) for e in model.inputs]
    assert [(each.name, list(each.dims)) for each in config.output] == [(model.output.name, list(model.output.dims))]
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    session = onnxruntime.InferenceSession(tmp_path / model.name / "1" / "model.onnx")
    rows = [version.predictor.preprocessor.prepare(text) for text in ("a", "some words that are read", "b c")]
    batch = version.predictor.preprocessor.collate(rows)
    inputs = {each.name: tensor.numpy() for each, tensor in zip(model.inputs, graph_inputs(batch), strict=True)}
    (found,) = session.run(["features"], inputs)
    assert close(torch.from_numpy(found), version.predictor.engine.features(batch, kind).values)


def test_another_version_comes_to_stand_beside_the_first_and_shares_its_backbone(
    growing: ModelRepository, tiny_text: str, tmp_path: Path
) -> None:
    export(growing.root, "letters:1", "triton", tmp_path / "out")
    before = {name: sha256_file(tmp_path / "out" / name) for name in files(tmp_path / "out")}
    (tmp_path / "out" / "letters" / "config.pbtxt").write_text(
        (tmp_path / "out" / "letters" / "config.pbtxt").read_text().replace("count: 1", "count: 2")
    )
    published(growing, tiny_text)
    export(growing.root, "letters:2", "triton", tmp_path / "out")
    export(growing.root, "moods", "triton", tmp_path / "out")
    after = {name: sha256_file(tmp_path / "out" / name) for name in files(tmp_path / "out")}
    assert {name for name in before if after[name] != before[name]} == {"letters/config.pbtxt"}
    assert {"letters/2/model.onnx", "letters/2/export-report.json", "moods/1/model.onnx"} <= after.keys()
    assert after["letters/1/model.onnx"] != after["letters/2/model.onnx"]
    assert len([name for name in after if name.startswith("backbone-") and name.endswith(".onnx")]) == 1
    assert read_config(tmp_path / "out" / "letters").instance_group[0].count == 2  # as somebody tuned it


def test_what_is_there_is_not_written_again(models_on_disk: Path, tmp_path: Path) -> None:
    export(models_on_disk, "letters", "triton", tmp_path)
    assert "delete it to export it again" in refusal(Conflict, models_on_disk, "letters", "triton", tmp_path)
    export(models_on_disk, "letters", "triton", tmp_path, "--backbone-only")


@pytest.mark.parametrize("labels", [("vowel", "consonant", "digit", "sign"), ("vowel", "consonant")])
def test_versions_whose_labels_differ_do_not_share_a_model(
    labels: Sequence[str], growing: ModelRepository, tiny_text: str, tmp_path: Path
) -> None:
    export(growing.root, "letters", "triton", tmp_path / "out")
    before = files(tmp_path / "out")
    published(growing, tiny_text, labels)
    message = refusal(InvalidParameter, growing.root, "letters:2", "triton", tmp_path / "out")
    assert "name another directory" in message
    assert files(tmp_path / "out") == before


def test_a_repository_has_one_backend_for_a_model(models_on_disk: Path, tmp_path: Path) -> None:
    export(models_on_disk, "letters", "triton", tmp_path)
    message = refusal(Conflict, models_on_disk, "moods", "triton", tmp_path, "--backend", "python")
    assert "is there for the backend onnxruntime" in message
    assert not (tmp_path / "moods").exists()


def test_a_backbone_that_is_damaged_there_is_told(models_on_disk: Path, tmp_path: Path) -> None:
    export(models_on_disk, "letters", "triton", tmp_path)
    (graph,) = tmp_path.glob("backbone-*/1/model.onnx")
    graph.write_bytes(graph.read_bytes()[:-100])
    message = refusal(ExportFailed, models_on_disk, "moods", "triton", tmp_path)
    assert message.startswith("backbone-")
    assert "is damaged there; delete it" in message
    shutil.rmtree(graph.parents[1])
    export(models_on_disk, "moods", "triton", tmp_path)


def test_a_directory_of_something_else_is_left_alone(models_on_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    message = refusal(InvalidParameter, models_on_disk, "letters", "triton", tmp_path)
    assert "is no model repository of Triton: it has thesis.tex" in message
    (tmp_path / "thesis.tex").rename(tmp_path / ".thesis")
    (tmp_path / "letters").mkdir()
    assert "letters has no config.pbtxt" in refusal(InvalidParameter, models_on_disk, "letters", "triton", tmp_path)
    assert "no directory" in refusal(InvalidParameter, models_on_disk, "letters", "triton", tmp_path / ".thesis")
