"""A real server over gRPC, asked by Triton's own clients; the numbers are those of HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import aio as triton_aio
from tritonclient.utils import InferenceServerException

from models.predictor import Predictor
from tests.processes import wait_for
from tests.service.answers import TOLERANCE
from tests.service.spoken import Spoken, tensor, words
from tests.tiny_models import LETTERS, picture

TEXTS = ["one of them", "another", "a third, longer text 123"]
PAIRS = [("one of them", "another"), ("a", "longer than the first one"), ("a", "a")]


pytestmark = pytest.mark.usefixtures("nothing_dies_over_grpc")


# The numbers


def test_texts(spoken: Spoken) -> None:
    for model in ("letters", "moods"):
        found = spoken.infer(model, {"text": words(*TEXTS)}, request_id="mine")
        assert found.get_response().id == "mine"
        predictions = spoken.predictions(model, TEXTS)
        labels = sorted(predictions[0]["scores"], key=list(LETTERS).index) if model == "letters" else ["glad", "sad"]
        wanted = [[each["scores"][label] for label in labels] for each in predictions]
        assert found.as_numpy("probabilities") == pytest.approx(np.array(wanted), abs=TOLERANCE)
        assert [each.decode() for each in found.as_numpy("label")] == [each["label"] for each in predictions]
        logits = found.as_numpy("logits")
        assert np.exp(logits) / np.exp(logits).sum(1, keepdims=True) == pytest.approx(np.array(wanted), abs=TOLERANCE)
        assert found.as_numpy("embedding").shape[0] == len(TEXTS)


def test_images_as_files(spoken: Spoken) -> None:
    images = [picture(1), picture(2, size=(300, 100), file_format="JPEG"), picture(3, file_format="WEBP")]
    found = spoken.infer("colours", {"image": words(*images)}, "probabilities", "label")
    predictions = spoken.predictions("colours", [{"b64": base64.b64encode(image).decode()} for image in images])
    for row, label, each in zip(found.as_numpy("probabilities"), found.as_numpy("label"), predictions, strict=True):
        assert label.decode() == each["label"]
        assert sorted(row.tolist()) == pytest.approx(sorted(each["scores"].values()), abs=TOLERANCE)


def test_images_as_pixels(spoken: Spoken, predictors: Mapping[str, Predictor]) -> None:
    images = [picture(4), picture(5)]
    preprocessor: Any = predictors["colours"].preprocessor
    pixels = np.stack([preprocessor.prepare(image).pixels_CHW.numpy() for image in images])
    files = spoken.infer("colours", {"image": words(*images)}, "probabilities").as_numpy("probabilities")
    found = spoken.infer("colours", {"pixel_values": pixels}, "probabilities").as_numpy("probabilities")
    assert found == pytest.approx(files, abs=TOLERANCE)


def test_several_labels(spoken: Spoken) -> None:
    found = spoken.infer("topics", {"text": words(*TEXTS)})
    for row, holds, each in zip(
        found.as_numpy("probabilities"), found.as_numpy("holds"), spoken.predictions("topics", TEXTS), strict=True
    ):
        assert sorted(row.tolist()) == pytest.approx(sorted(each["scores"].values()), abs=TOLERANCE)
        assert holds.dtype == np.bool_
        assert holds.sum() == len(each["labels"])


def test_amounts(spoken: Spoken) -> None:
    found = spoken.infer("prices", {"text": words(*TEXTS)}, "value", "interval")
    predictions = spoken.predictions("prices", TEXTS)
    assert found.as_numpy("value").ravel().tolist() == pytest.approx(
        [each["value"] for each in predictions], abs=TOLERANCE
    )
    wanted = np.array([each["interval"] for each in predictions])
    assert found.as_numpy("interval") == pytest.approx(wanted, abs=TOLERANCE)


def test_words(spoken: Spoken) -> None:
    texts = ["ab cd ef gh  x1 yz a b c", "a b"]
    found = spoken.infer("names", {"text": words(*texts)}, "entities").as_numpy("entities")
    for each, prediction in zip(found, spoken.predictions("names", texts), strict=True):
        entities = json.loads(each)
        assert [(e["label"], e["start"], e["end"]) for e in entities] == [
            (e["label"], e["start"], e["end"]) for e in prediction["entities"]
        ]


@pytest.mark.parametrize("name", ["follows", "likeness"])
def test_pairs(spoken: Spoken, name: str) -> None:
    firsts, seconds = zip(*PAIRS, strict=True)
    found = spoken.infer(name, {"text": words(*firsts), "text_pair": words(*seconds)})
    predictions = spoken.predictions(name, [list(pair) for pair in PAIRS])
    if name == "likeness":
        wanted = [each["value"] for each in predictions]
        assert found.as_numpy("value").ravel().tolist() == pytest.approx(wanted, abs=TOLERANCE)
        return
    for row, each in zip(found.as_numpy("probabilities"), predictions, strict=True):
        assert row.tolist() == pytest.approx([each["scores"][label] for label in ("yes", "no", "maybe")], abs=TOLERANCE)


def test_the_best_classes(spoken: Spoken) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", class_count=2)]
    found = spoken.client.infer("letters", [tensor("text", words("abc"))], outputs=wanted).as_numpy("probabilities")
    (prediction,) = spoken.predictions("letters", ["abc"])
    best = list(prediction["scores"].items())[:2]
    assert found.shape == (1, 2)
    for element, (label, score) in zip(found[0], best, strict=True):
        value, index, name = element.decode().split(":")
        assert (name, LETTERS[int(index)], float(value)) == (label, label, pytest.approx(score, abs=TOLERANCE))


def test_texts_that_are_cut_are_named(spoken: Spoken) -> None:
    long = "a " * 900
    with pytest.raises(InferenceServerException, match="context_length_exceeded") as caught:
        spoken.infer("letters", {"text": words("a", long)})
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    found = spoken.infer("letters", {"text": words("a", long)}, parameters={"truncate": True})
    assert found.get_response().parameters["truncated_rows"].string_param == "1"


def test_the_other_client_many_at_once(spoken: Spoken) -> None:
    async def ask_all() -> list[Any]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{spoken.port}") as client:
            inputs = [[tensor("text", words(f"text {number}"))] for number in range(64)]
            return await asyncio.gather(*(client.infer("letters", each) for each in inputs))

    found = np.concatenate([each.as_numpy("probabilities") for each in asyncio.run(ask_all())])
    wanted = spoken.predictions("letters", [f"text {number}" for number in range(64)])
    assert found == pytest.approx(
        np.array([[each["scores"][label] for label in LETTERS] for each in wanted]), abs=TOLERANCE
    )


# Everything else that the client has


def test_what_the_client_may_ask_of_server_and_models(spoken: Spoken) -> None:
    client = spoken.client
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("letters", "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata(as_json=True)["name"] == "graftwork"
    metadata = client.get_model_metadata("colours", as_json=True)
    assert [each["name"] for each in metadata["inputs"]] == ["image", "pixel_values"]
    config = client.get_model_config("letters", as_json=True)["config"]
    assert config["input"] == [{"name": "text", "data_type": "TYPE_STRING", "dims": ["1"]}]
    with pytest.raises(InferenceServerException, match="did you mean 'letters'") as caught:
        client.get_model_metadata("leters")
    assert caught.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException, match="shared memory is not supported") as caught:
        client.register_system_shared_memory("region", "/region", 8)
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_statistics_are_those_of_http(spoken: Spoken) -> None:
    spoken.infer("moods", {"text": words(*TEXTS)})
    (found,) = spoken.client.get_inference_statistics("moods", "1", as_json=True)["model_stats"]
    (wanted,) = spoken.server.request("GET", "/v2/models/moods/versions/1/stats").json()["model_stats"]
    assert int(found["inference_count"]) == wanted["inference_count"] >= len(TEXTS)
    assert int(found["inference_stats"]["success"]["ns"]) == wanted["inference_stats"]["success"]["ns"] > 0
    every = spoken.client.get_inference_statistics(as_json=True)["model_stats"]
    assert {each["name"] for each in every} >= {"moods", "letters"}


def test_the_index_is_that_of_http_and_loading_needs_its_option(spoken: Spoken) -> None:
    index = spoken.client.get_model_repository_index(as_json=True)["models"]
    assert {(each["name"], each["version"], each["state"]) for each in index} >= {("letters", "1", "READY")}
    assert index == [
        {name: value for name, value in each.items() if value}
        for each in spoken.server.request("POST", "/v2/repository/index").json()
    ]
    for ask in (spoken.client.load_model, spoken.client.unload_model):
        with pytest.raises(InferenceServerException, match="--model-control explicit") as caught:
            ask("letters")
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_streams_are_told_that_there_are_none(spoken: Spoken) -> None:
    said: list[Any] = []
    with triton.InferenceServerClient(f"127.0.0.1:{spoken.port}") as client:
        client.start_stream(callback=lambda result, error: said.append(error))
        wait_for(lambda: said, 10)
        client.stop_stream()
    assert "streams are not supported" in str(said[0])


def test_a_client_that_waits_for_less_gets_its_status(spoken: Spoken) -> None:
    with pytest.raises(InferenceServerException) as caught:
        spoken.infer("letters", {"text": words("a")}, timeout=1)  # a microsecond
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
