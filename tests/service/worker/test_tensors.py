"""A row's tensors say what its prediction says, for every task."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from models.head import scores_by_head
from models.head_inputs import head_inputs
from models.predictor import Predictor
from models.repository import ModelRepository
from models.signature import signature
from service.worker.loaded_version import LoadedVersion
from service.worker.registry import Registry
from service.worker.tensors import ComputedRow, row_tensors
from tests.tiny_models import TASK_MODELS, TorchEngines

TEXT, PAIR = "one of them 123", ("one of them", "another")
PAIRED = ("follows", "likeness")


@pytest.fixture(scope="module")
def registry(tasks_on_disk: Path) -> Iterator[Registry]:
    return Registry(ModelRepository(tasks_on_disk), TorchEngines())


def computed(version: LoadedVersion, item: str | tuple[str, str]) -> ComputedRow:
    predictor: Predictor = version.predictor
    row = predictor.preprocessor.prepare(item)
    features = predictor.engine.features(predictor.preprocessor.collate([row]), version.kind)
    (inputs,) = head_inputs(features, [row])
    vectors, count = list(inputs.vectors_VD.numpy()), len(inputs.owners)
    temperatures = [predictor.calibration.temperature] * count
    scores = list(scores_by_head(inputs.vectors_VD, [predictor.head] * count, temperatures))
    return ComputedRow(
        predictor=predictor, vectors=vectors, scores=scores, predict=lambda: version.answers(scores, row, None)
    )


@pytest.mark.parametrize("name", ["letters", *TASK_MODELS])
def test_tensors_are_what_the_signature_and_the_prediction_say(registry: Registry, name: str) -> None:
    version = registry.load(name, 1)
    row = computed(version, PAIR if name in PAIRED else TEXT)
    specs = signature(version.manifest).outputs
    raws = dict(zip([spec.name for spec in specs], row_tensors(row, [spec.name for spec in specs]), strict=True))
    for spec in specs:
        sizes = {"FP32": 4, "BOOL": 1}
        if spec.datatype in sizes:
            assert len(raws[spec.name]) == sizes[spec.datatype] * int(np.prod(spec.shape[1:]))
        else:
            assert struct.unpack_from("<I", raws[spec.name])[0] == len(raws[spec.name]) - 4
    prediction = row.predict()
    if "label" in raws:
        assert raws["label"][4:].decode() == prediction["label"]
    if "probabilities" in raws:
        found = np.frombuffer(raws["probabilities"], "<f4")
        expected = [prediction["scores"][label] for label in version.manifest.labels]
        assert found == pytest.approx(expected, abs=1e-5)
        logits = np.frombuffer(raws["logits"], "<f4").astype(float)
        softmax = np.exp(logits) / np.exp(logits).sum()
        assert found == pytest.approx(1 / (1 + np.exp(-logits)) if "holds" in raws else softmax, abs=1e-5)
    if "holds" in raws:
        held = [label for label, byte in zip(version.manifest.labels, raws["holds"], strict=True) if byte]
        assert sorted(held) == sorted(prediction["labels"])
    if "value" in raws:
        assert struct.unpack("<f", raws["value"])[0] == pytest.approx(prediction["value"])
        assert np.frombuffer(raws["interval"], "<f4") == pytest.approx(prediction["interval"])
    if "entities" in raws:
        assert orjson.loads(raws["entities"][4:]) == prediction["entities"]
    if "embedding" in raws:
        assert np.frombuffer(raws["embedding"], "<f4") == pytest.approx(row.vectors[0])
