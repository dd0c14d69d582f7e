"""Unmodified clients of Triton over HTTP, both of them, against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.batch import ImageRow
from models.features import FeatureKind
from models.predictor import Predictor
from tests.server_process import ServerProcess
from tests.tiny_models import LETTERS, picture

SCRIPT = Path(__file__).with_name("triton_http_client.py")
TEXTS = ["it is a", "it is 7, and more of it", "\u00e9\u4e2d\U0001f600"]
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=["sync", "aio"])
def seen(request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one of the clients saw, by case."""
    pytest.importorskip("tritonclient.http", reason="needs the extra: graftwork[triton]")
    directory = tmp_path_factory.mktemp("pictures")
    files = [directory / "1.png", directory / "2.jpg"]
    files[0].write_bytes(picture(1))
    files[1].write_bytes(picture(2, file_format="JPEG"))
    command = [sys.executable, "-P", str(SCRIPT), request.param, f"127.0.0.1:{server.port}", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def outputs(seen: Any, case: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = seen[case]["outputs"]
    return found


def test_it_sees_the_server_and_its_models(seen: Any) -> None:
    assert seen["is_server_live"] is True
    assert seen["is_server_ready"] is True
    metadata = seen["get_server_metadata"]
    assert metadata["name"] == "graftwork"
    assert {"binary_tensor_data", "classification", "model_configuration", "statistics"} <= set(metadata["extensions"])
    ready = [seen[f"ready {address}"] for address in ("letters ", "letters 1", "letters 2", "nobody ")]
    assert ready == [True, True, False, False]


def test_it_sees_what_models_read_and_give(seen: Any) -> None:
    metadata = seen["metadata letters"]
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("letters", ["1"], "graftwork")
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert [(each["name"], each["datatype"], each["shape"]) for each in metadata["outputs"]] == [
        ("probabilities", "FP32", [-1, 4]),
        ("logits", "FP32", [-1, 4]),
        ("label", "BYTES", [-1]),
        ("embedding", "FP32", [-1, 16]),
    ]
    assert [(each["name"], each["datatype"], each["shape"]) for each in seen["metadata colours"]["inputs"]] == [
        ("image", "BYTES", [-1]),
        ("pixel_values", "FP32", [-1, 3, 64, 64]),
    ]
    config = seen["config colours"]
    assert (config["name"], config["max_batch_size"]) == ("colours", 64)
    assert [(each["name"], each["dims"], each["optional"]) for each in config["input"]] == [
        ("image", [1], True),
        ("pixel_values", [3, 64, 64], True),
    ]


@pytest.mark.parametrize("case", ["binary", "column"])
def test_its_texts_get_the_numbers_of_the_model(seen: Any, predictors: Mapping[str, Predictor], case: str) -> None:
    predictor, found = predictors["letters"], outputs(seen, case)
    scores = predictor.predict(TEXTS).numpy()
    assert np.array(found["probabilities"]) == pytest.approx(scores, abs=TOLERANCE)
    assert found["label"] == [LETTERS[index] for index in scores.argmax(axis=1)]
    assert np.array(found["embedding"]) == pytest.approx(predictor.features(TEXTS).numpy(), abs=TOLERANCE)
    logits = torch.tensor(found["logits"])
    assert torch.softmax(logits.double(), dim=1).numpy() == pytest.approx(scores, abs=TOLERANCE)
    head = predictor.head
    wanted = predictor.features(TEXTS) @ head.weight_CD.T + head.bias_C
    assert logits.numpy() == pytest.approx(wanted.numpy() / predictor.calibration.temperature, abs=1e-4)


def test_its_id_comes_back_and_every_answer_names_its_version(seen: Any) -> None:
    response = seen["binary"]["response"]
    assert (response["id"], response["model_name"], response["model_version"]) == ("my id", "letters", "1")
    assert "id" not in seen["column"]["response"]


def test_outputs_in_json_are_those_that_were_asked_for(seen: Any) -> None:
    assert seen["json"]["response"]["outputs"] == [["label", "BYTES", [3]], ["probabilities", "FP32", [3, 4]]]
    found, wanted = (np.array(outputs(seen, case)["probabilities"]) for case in ("json", "binary"))
    assert found == pytest.approx(wanted, abs=TOLERANCE)
    assert outputs(seen, "json")["label"] == outputs(seen, "binary")["label"]


def test_classes_are_the_best_ones_with_value_place_and_label(seen: Any) -> None:
    assert seen["classes"]["response"]["outputs"] == [["probabilities", "BYTES", [3, 2]]]
    found = iter(outputs(seen, "classes")["probabilities"])
    for row in outputs(seen, "binary")["probabilities"]:
        for place in sorted(range(4), key=lambda index: -row[index])[:2]:
            score, index, label = next(found).split(":")
            assert (int(index), label) == (place, LETTERS[place])
            assert float(score) == pytest.approx(row[place], abs=TOLERANCE)
            assert len(score.partition(".")[2]) == 6
    assert len(outputs(seen, "many classes")["logits"]) == len(LETTERS)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_both_ways_it_gets_the_same(seen: Any, algorithm: str) -> None:
    assert outputs(seen, algorithm)["label"] == outputs(seen, "binary")["label"] * 20


def test_its_images_get_the_numbers_of_the_model(seen: Any, predictors: Mapping[str, Predictor]) -> None:
    scores = predictors["colours"].predict([picture(1), picture(2, file_format="JPEG")]).numpy()
    assert np.array(outputs(seen, "images")["probabilities"]) == pytest.approx(scores, abs=TOLERANCE)


def test_its_pixels_are_the_images_that_they_are(seen: Any, predictors: Mapping[str, Predictor]) -> None:
    predictor = predictors["colours"]
    levels = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    rows = [ImageRow(pixels_CHW=torch.from_numpy(each)) for each in levels]
    features = predictor.engine.features(predictor.preprocessor.collate(rows), FeatureKind.POOLED)
    scores = predictor.scores(features.values).numpy()
    for datatype in ("UINT8", "FP32"):
        assert np.array(outputs(seen, f"pixels {datatype}")["probabilities"]) == pytest.approx(scores, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("case", "status", "start"),
    [
        ("unknown model", "404", "model_not_found: there is no model 'nobody'"),
        ("unknown input", "400", "invalid_tensor: there is no input 'words'; this model reads 'text'"),
        ("empty text", "422", "empty_text: instance 1"),
        ("too late", "504", "deadline_exceeded: "),
        ("shared memory", "501", "not_supported: "),
        ("trace", "501", "not_supported: "),
        ("log", "501", "not_supported: "),
    ],
)
def test_it_raises_what_the_server_says(seen: Any, case: str, status: str, start: str) -> None:
    found_status, message = seen[case]
    assert status in found_status
    assert message.startswith(start)
