"""One graph: the same answers for any number of rows and any length, and a card whose program runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from models.batch import ImageBatch, ImageRow
from models.graph import graph_inputs
from models.image_preprocessor import ImagePreprocessor
from models.preprocessor import ImagePreprocessorConfig
from models.storage import sha256_file
from service.export.card import image_reading
from tests.service.export.exporting import close, export, files, run_card, subject
from tests.tiny_models import picture

CARDS = {
    "letters": ("mark", "consonant"),
    "topics": ("[",),
    "prices": ("[",),
    "names": ("[CLS]", "B-name"),
    "follows": ("no",),
    "likeness": ("[",),
    "vectors": ("(2, 16)",),
}
OUTPUTS = {
    "letters": ["logits", "probabilities", "embedding"],
    "topics": ["logits", "probabilities", "embedding"],
    "prices": ["score", "embedding"],
    "names": ["logits", "probabilities", "embedding"],
    "follows": ["logits", "probabilities", "embedding"],
    "likeness": ["score", "embedding"],
    "vectors": ["embedding"],
}
TEXTS = ["a", "here is one that is longer, and ends with a mark!", "three words here", "4", "a fifth text"]
PAIRS = list(zip(TEXTS, reversed(TEXTS), strict=True))


@pytest.mark.parametrize("name", CARDS)
def test_a_graph_of_texts_answers_like_the_version_for_other_sizes_than_it_was_traced_with(
    name: str, tasks_on_disk: Path, tmp_path: Path
) -> None:
    export(tasks_on_disk, name, "onnx", tmp_path / "out")
    version = subject(tasks_on_disk, name)
    items = PAIRS if version.version.manifest.pair else TEXTS
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == OUTPUTS[name]
    for some in ([items[0]], items, [items[1]] * 3):
        rows = [version.predictor.preprocessor.prepare(item) for item in some]
        tensors = [tensor.numpy() for batch in version.tensors(rows) for tensor in graph_inputs(batch)]
        inputs = {each.name: tensor for each, tensor in zip(session.get_inputs(), tensors, strict=True)}
        found = dict(zip(OUTPUTS[name], session.run(None, inputs), strict=True))
        wanted = version.predictor.predict(some)
        answer = "score" if "score" in found else "probabilities" if "probabilities" in found else "embedding"
        values = version.vectors(torch.from_numpy(found[answer]), rows)
        assert close(values, version.predictor.features(some) if answer == "embedding" else wanted)


@pytest.mark.parametrize("name", CARDS)
def test_the_program_of_a_card_runs_where_the_export_lies(name: str, tasks_on_disk: Path, tmp_path: Path) -> None:
    export(tasks_on_disk, name, "onnx", tmp_path / "out")
    printed = run_card(tmp_path / "out")
    assert all(word in printed for word in CARDS[name])


def test_a_graph_of_images_answers_like_the_version(models_on_disk: Path, tmp_path: Path) -> None:
    export(models_on_disk, "colours", "onnx", tmp_path / "out")
    predictor = subject(models_on_disk, "colours").predictor
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    items = [picture(seed) for seed in range(5)]
    batch = predictor.preprocessor.collate([predictor.preprocessor.prepare(item) for item in items])
    assert isinstance(batch, ImageBatch)
    (found,) = session.run(["probabilities"], {"pixels": batch.pixels_BCHW.numpy()})
    assert close(torch.from_numpy(found), predictor.predict(items))
    (tmp_path / "out" / "photo.jpg").write_bytes(picture(1, size=(90, 64), file_format="JPEG"))
    (scores,) = predictor.predict([(tmp_path / "out" / "photo.jpg").read_bytes()]).tolist()
    label, score = run_card(tmp_path / "out").split()
    assert scores[list(predictor.labels).index(label)] == max(scores) == pytest.approx(float(score), abs=1e-3)


def test_all_that_a_graph_needs_lies_beside_it_and_the_report_knows_its_sums(
    tasks_on_disk: Path, tmp_path: Path
) -> None:
    (summary,) = export(tasks_on_disk, "letters", "onnx", tmp_path / "out")
    assert summary["exported"] == "letters:1"
    out = tmp_path / "out"
    assert files(out) == {
        *("model.onnx", "labels.txt", "manifest.json", "preprocessor.json", "tokenizer.json", "README.md"),
        "export-report.json",
    }
    assert (out / "labels.txt").read_text() == "vowel\nconsonant\ndigit\nmark\n"
    report = json.loads((out / "export-report.json").read_text())
    assert report["files"] == {name: sha256_file(out / name) for name in files(out) - {"export-report.json"}}
    assert report["check"]["golden_inputs"] == 2
    assert {each["output"] for each in report["check"]["outputs"]} == {"logits", "probabilities", "embedding"}
    assert all(0 <= each["difference"] <= each["tolerance"] for each in report["check"]["outputs"])
    assert {"onnx", "onnxruntime", "torch"} <= report["libraries"].keys()
    assert [each["name"] for each in report["tensors"]["inputs"]] == ["input_ids", "token_type_ids", "attention_mask"]


@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize("input_size", [(3, 64, 64), (3, 64, 48)])
@pytest.mark.parametrize("size", [(107, 64), (61, 90), (300, 301)])
def test_a_card_reads_images_as_the_version_does(
    size: tuple[int, int],
    input_size: tuple[int, int, int],
    crop_mode: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = ImagePreprocessorConfig(input_size=input_size, interpolation="bicubic", crop_pct=0.9, crop_mode=crop_mode)
    file = picture(3, size=size)
    (tmp_path / "photo.jpg").write_bytes(file)  # Pillow looks at what is in it
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(image_reading(config), names)
    row = ImagePreprocessor(config).prepare(file)
    assert isinstance(row, ImageRow)
    off_CHW = names["pixels"][0].astype(int) - row.pixels_CHW.numpy().astype(int)
    assert abs(off_CHW).max() <= 2  # as torch's kernel rounds, or Pillow's
    assert abs(off_CHW).mean() < 0.1
