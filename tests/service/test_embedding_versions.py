"""A version without a head, asked of the real server in every dialect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.repository import ModelRepository
from service.worker.registry import Registry
from tests.service.answers import TOLERANCE, check_refusal
from tests.service.oip_asking import in_bytes, in_json, infer, tensors
from tests.service.spoken import Spoken, words
from tests.tiny_models import TorchEngines

TEXTS = ["one of them", "another", "a third, longer text 123"]
LONG = "a b " * 500


@pytest.fixture(scope="module")
def wanted(tasks_on_disk: Path) -> NDArray[np.float32]:
    """The features of its backbone, ``(N, D)``."""
    registry = Registry(ModelRepository(tasks_on_disk), TorchEngines())
    found: NDArray[np.float32] = registry.load("vectors", 1).predictor.features(TEXTS).numpy()
    return found


def test_a_prediction_is_what_the_backbone_gives(spoken: Spoken, wanted: NDArray[np.float32]) -> None:
    for query in ("", "?top_k=1"):
        found = spoken.server.predict("vectors", TEXTS, query).json()["predictions"]
        assert [list(prediction) for prediction in found] == [["embedding"]] * len(TEXTS)
        assert np.allclose([prediction["embedding"] for prediction in found], wanted, atol=TOLERANCE)


def test_tensors_hold_the_same(spoken: Spoken, wanted: NDArray[np.float32]) -> None:
    texts = [text.encode() for text in TEXTS]
    body, headers = in_bytes({"text": texts}, outputs=[{"name": "embedding", "parameters": {"binary_data": True}}])
    for reply in (
        infer(spoken.server, "vectors", in_json({"text": TEXTS})),
        infer(spoken.server, "vectors", body, headers),
    ):
        found = tensors(reply)
        assert list(found) == ["embedding"]
        assert np.allclose(found["embedding"], wanted, atol=TOLERANCE)
    over_grpc = spoken.infer("vectors", {"text": words(*TEXTS)}).as_numpy("embedding")
    assert np.allclose(over_grpc, wanted, atol=TOLERANCE)


def test_there_is_nothing_else_to_be_asked_for(spoken: Spoken) -> None:
    for outputs, code in (
        ([{"name": "probabilities"}], "invalid_tensor"),
        ([{"name": "embedding", "parameters": {"classification": 2}}], "invalid_parameter"),
    ):
        assert infer(spoken.server, "vectors", in_json({"text": TEXTS}, outputs=outputs)).code == code


def test_it_says_what_it_is(spoken: Spoken, wanted: NDArray[np.float32]) -> None:
    width = wanted.shape[1]
    outputs = spoken.server.request("GET", "/v2/models/vectors").json()["outputs"]
    assert outputs == [{"name": "embedding", "datatype": "FP32", "shape": [-1, width]}]
    (output,) = spoken.server.request("GET", "/v2/models/vectors/config").json()["output"]
    assert output == {"name": "embedding", "data_type": "TYPE_FP32", "dims": [width]}
    metadata = spoken.server.request("GET", "/v1/models/vectors/metadata").json()
    assert (metadata["task"], metadata["labels"]) == ("embedding", [])
    assert metadata["serving"]["precision"] == "fp32"


def test_its_rows_are_counted(spoken: Spoken) -> None:
    def rows() -> int:
        (version,) = spoken.server.request("GET", "/v2/models/vectors/stats").json()["model_stats"]
        return int(version["inference_count"])

    before = rows()
    spoken.server.predict("vectors", TEXTS)
    assert rows() == before + len(TEXTS)


def test_a_text_that_is_too_long_is_refused_or_cut(spoken: Spoken) -> None:
    check_refusal(spoken.server.predict("vectors", [LONG]), 422, "context_length_exceeded")
    short, cut = spoken.server.predict("vectors", ["a", LONG], "?truncate=true").json()["predictions"]
    assert (sorted(short), sorted(cut)) == (["embedding"], ["embedding", "truncated"])
    assert cut["truncated"] is True
