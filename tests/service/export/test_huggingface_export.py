"""What timm and transformers load by themselves answers like the version."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.data import resolve_model_data_config

from finetune.from_scratch import lstm_checkpoint
from finetune.importing import import_checkpoint
from finetune.publishing import FittedHead, Graft, publish
from models.batch import ImageBatch
from models.errors import ExportFailed, InvalidParameter
from models.head import Head, Hidden
from models.manifest import Calibration
from models.repository import ModelRepository
from models.sources import fetch_checkpoint
from models.version import ModelVersion
from tests.models.families import IMAGE_FAMILIES, TEXT_FAMILIES, ImageFamily, TextFamily
from tests.service.export.exporting import close, export, files, refusal, run_card, subject
from tests.tiny_models import LETTERS, TorchEngines, picture, publish_texts, torch_engine

CARDS = {
    "letters": "'mark': 0.77",
    "topics": "'war': 0.99",
    "prices": "tensor([",
    "names": "'B-name'",
    "follows": "'no': 0.53",
    "likeness": "tensor([",
    "vectors": "torch.Size([2, 16])",
}


def publish_head(repository: ModelRepository, backbone: str, hidden: bool, temperature: float) -> ModelVersion:
    """``sizes``: a random head of three classes on images."""
    checkpoint = fetch_checkpoint(backbone)
    stored = repository.backbones.add(checkpoint)
    random = torch.Generator().manual_seed(3)
    width = stored.config.feature_dim
    head = Head(weight_CD=torch.randn(3, 8 if hidden else width, generator=random), bias_C=torch.randn(3))
    if hidden:
        layer = Hidden(weight_HD=torch.randn(8, width, generator=random), bias_H=torch.randn(8, generator=random))
        head = replace(head, hidden=layer)
    fitted = FittedHead(engine=torch_engine(stored), head=head, calibration=Calibration(temperature=temperature))
    graft = Graft(
        name="sizes",
        backbone=stored,
        preprocessor=checkpoint.preprocessor,
        heads=dict.fromkeys(TorchEngines().precisions(stored), fitted),
        labels=("small", "middling", "large"),
        golden_items=[picture(7), picture(8)],
    )
    return publish(repository, graft)


def test_timm_loads_a_version_whose_softmax_gives_the_calibrated_probabilities(
    tiny_vision: str, tmp_path: Path
) -> None:
    repository = ModelRepository(tmp_path / "repository")
    publish_head(repository, tiny_vision, hidden=False, temperature=2.5)
    export(repository.root, "sizes", "huggingface", tmp_path / "out")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert model.pretrained_cfg["label_names"] == ["small", "middling", "large"]
    data = resolve_model_data_config(model)
    assert [list(data[name]) for name in ("input_size", "mean", "std")] == [[3, 64, 64], [0.5] * 3, [0.5] * 3]
    assert (data["crop_pct"], data["crop_mode"], data["interpolation"]) == (0.9, "center", "bicubic")
    predictor = subject(repository.root, "sizes").predictor
    items = [picture(seed) for seed in range(4)]
    batch = predictor.preprocessor.collate([predictor.preprocessor.prepare(item) for item in items])
    assert isinstance(batch, ImageBatch)
    with torch.inference_mode():
        found = model((batch.pixels_BCHW / 255 - 0.5) / 0.5).softmax(-1)
    assert close(found, predictor.predict(items))
    (tmp_path / "out" / "photo.jpg").write_bytes(picture(1, size=(80, 70), file_format="JPEG"))
    assert [line.split()[0] for line in run_card(tmp_path / "out").splitlines()] == ["small", "middling", "large"]


def test_a_head_that_is_not_linear_lies_beside_its_backbone(tiny_vision: str, tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "repository")
    publish_head(repository, tiny_vision, hidden=True, temperature=1.5)
    (summary,) = export(repository.root, "sizes", "huggingface", tmp_path / "out")
    assert [each["output"] for each in summary["outputs"]] == ["probabilities", "embedding"]
    assert "Its head lies beside it" in (tmp_path / "out" / "README.md").read_text()
    assert set(load_file(tmp_path / "out" / "head.safetensors")) == {"weight", "bias", "hidden.weight", "hidden.bias"}
    (tmp_path / "out" / "photo.jpg").write_bytes(picture(1, size=(80, 70), file_format="JPEG"))
    (scores,) = subject(repository.root, "sizes").predictor.predict([(tmp_path / "out" / "photo.jpg").read_bytes()])
    printed = [float(line.split()[1]) for line in run_card(tmp_path / "out").splitlines()]
    assert printed == pytest.approx(scores.tolist(), abs=0.02)  # timm resizes by Pillow


@pytest.mark.slow
@pytest.mark.parametrize("family", IMAGE_FAMILIES, ids=lambda family: family.architecture)
def test_timm_loads_every_family_with_its_classifier(family: ImageFamily, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    family.write(tmp_path / "checkpoint")
    repository = ModelRepository(tmp_path / "repository")
    import_checkpoint(repository, f"dir:{tmp_path / 'checkpoint'}", "pictures", TorchEngines())
    export(repository.root, "pictures", "huggingface", tmp_path / "huggingface")
    if family.architecture == "vgg11_bn":  # which pools maps of 2 x 2 into 7 x 7 where images are so small
        message = refusal(ExportFailed, repository.root, "pictures", "onnx", tmp_path / "onnx")
        assert message.startswith("there is no ONNX graph of this backbone (")
    else:
        export(repository.root, "pictures", "onnx", tmp_path / "onnx")
    found = fetch_checkpoint(f"dir:{tmp_path / 'huggingface'}")
    assert found.classifier is not None
    assert len(found.classifier.labels) == 5
    assert found.preprocessor == repository.read("pictures", 1).manifest.preprocessor


@pytest.mark.parametrize("name", CARDS)
def test_the_program_of_a_card_answers_with_the_export_alone(name: str, tasks_on_disk: Path, tmp_path: Path) -> None:
    export(tasks_on_disk, name, "huggingface", tmp_path / "out")
    assert CARDS[name] in run_card(tmp_path / "out")


def test_transformers_and_sentence_transformers_find_what_they_read(tasks_on_disk: Path, tmp_path: Path) -> None:
    export(tasks_on_disk, "letters", "huggingface", tmp_path / "out")
    assert files(tmp_path / "out") == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "head.safetensors"),
        *("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"),
        *("README.md", "manifest.json", "export-report.json"),
    }
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {str(index): label for index, label in enumerate(LETTERS)}
    assert config["architectures"] == ["BertModel"]
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert [each["type"].rpartition(".")[2] for each in modules] == ["Transformer", "Pooling"]


@pytest.mark.slow
@pytest.mark.parametrize("family", TEXT_FAMILIES, ids=lambda family: family.model_type)
def test_transformers_loads_every_family_and_so_do_we(family: TextFamily, tiny_text: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    family.write(tmp_path / "checkpoint", Path(tiny_text.removeprefix("dir:")) / "tokenizer.json")
    repository = ModelRepository(tmp_path / "repository")
    name = f"dir:{tmp_path / 'checkpoint'}"
    publish_texts(repository, name, "letters", LETTERS, seed=1, calibration=Calibration(temperature=0.7))
    for form in ("huggingface", "onnx"):
        export(repository.root, "letters", form, tmp_path / form)
    before, after = fetch_checkpoint(name), fetch_checkpoint(f"dir:{tmp_path / 'huggingface'}")
    assert after.preprocessor == before.preprocessor
    assert after.tokenizer_json == before.tokenizer_json
    assert (after.config.pooling, after.config.feature_dim) == (before.config.pooling, before.config.feature_dim)
    assert after.state.keys() == before.state.keys()
    assert all(torch.equal(after.state[key], before.state[key]) for key in before.state)
    if family.model_type in ("gpt2", "t5"):  # whose programs are others
        assert "vowel" in run_card(tmp_path / "huggingface")


def test_a_backbone_of_our_own_has_no_other_library(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "repository")
    stored = repository.backbones.add(checkpoint := lstm_checkpoint(["some text", "another text"] * 20, seed=0))
    graft: dict[str, Any] = {"preprocessor": checkpoint.preprocessor, "labels": ("a", "b")}
    head = Head(weight_CD=torch.ones(2, stored.config.feature_dim), bias_C=torch.zeros(2))
    fitted = FittedHead(engine=torch_engine(stored), head=head)
    heads = dict.fromkeys(TorchEngines().precisions(stored), fitted)
    publish(repository, Graft(name="own", backbone=stored, heads=heads, golden_items=["some text", "a text"], **graft))
    message = refusal(InvalidParameter, repository.root, "own", "huggingface", tmp_path / "out")
    assert message.endswith("use --format onnx")
    export(repository.root, "own", "onnx", tmp_path / "out")
