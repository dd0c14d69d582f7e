"""FAULTS 1 to 3 in the Open Inference Protocol: texts, images and pixels that are asked of the real server."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.predictor import Predictor
from service.api.oip.tensor import pack_elements
from tests.server_process import Reply, ServerProcess
from tests.service.api.oip.infer_bodies import Json, body_of, check_error, text_bytes, text_input
from tests.tiny_models import picture

pytestmark = pytest.mark.usefixtures("nothing_dies")
MEBI = 1 << 20


def infer(server: ServerProcess, model: str, *inputs: Json, rest: bytes = b"", **members: Any) -> Reply:
    head = body_of(*inputs, **members)
    headers = {"Inference-Header-Content-Length": str(len(head))} if rest else {}
    return server.request("POST", f"/v2/models/{model}/infer", head + rest, headers)


def probabilities(reply: Reply) -> np.ndarray:
    assert reply.status == 200, reply.body
    (tensor,) = (each for each in reply.json()["outputs"] if each["name"] == "probabilities")
    return np.reshape(tensor["data"], tensor["shape"])


def pixels(values: np.ndarray, datatype: str) -> tuple[Json, bytes]:
    raw = values.tobytes()
    shape = list(values.shape)
    return {
        "name": "pixel_values",
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": len(raw)},
    }, raw


# Texts


def test_t09_a_million_letters_without_a_space(server: ServerProcess) -> None:
    started = time.perf_counter()
    reply = infer(server, "letters", text_input("a" * 1_000_000))
    assert reply.status in (200, 413, 422)  # one word that the tokenizer does not know
    assert time.perf_counter() - started < 2
    check_error(infer(server, "letters", text_input("a" * (MEBI + 1))), 413, "text_too_long")


@pytest.mark.parametrize(
    ("texts", "status", "code"),
    [([], 400, "invalid_tensor"), (["a"] * 65, 400, "invalid_tensor"), (["a", "", "b"], 422, "empty_text")],
)
def test_t10_batches_that_are_refused(server: ServerProcess, texts: list[str], status: int, code: str) -> None:
    check_error(infer(server, "letters", text_input(*texts)), status, code, "instance 1: " if "" in texts else "")


@pytest.mark.parametrize("count", [1, 64])
def test_t10_batches(server: ServerProcess, predictors: Mapping[str, Predictor], count: int) -> None:
    texts = [f"a {number}" for number in range(count)]
    found = probabilities(infer(server, "letters", text_input(*texts)))
    assert found == pytest.approx(predictors["letters"].predict(texts).numpy(), abs=1e-5)
    packed = [text.encode() for text in texts]
    again = probabilities(infer(server, "letters", text_bytes(*packed), rest=pack_elements(packed)))
    assert again == pytest.approx(found, abs=1e-5)  # batches may be cut in another way


@pytest.mark.parametrize("value", [-1, 1 << 20, 1 << 63, True, 1.5])
def test_t11_token_ids_are_no_texts(server: ServerProcess, value: object) -> None:
    reply = infer(server, "letters", text_input(value, datatype="INT64"))
    check_error(reply, 400, "invalid_tensor")
    check_error(infer(server, "letters", text_input(value)), 422, "invalid_value", "/inputs/0/data/0: ")


def test_t12_unknown_models(server: ServerProcess) -> None:
    check_error(infer(server, "nobody", text_input("a")), 404, "model_not_found")


@pytest.mark.parametrize("text", ["a\x00b", "\ufeffa", "\u202eabc", "[CLS] [SEP] </s> <|endoftext|>", "e\u0301"])
def test_odd_texts_are_texts(server: ServerProcess, predictors: Mapping[str, Predictor], text: str) -> None:
    found = probabilities(infer(server, "letters", text_bytes(text.encode()), rest=pack_elements([text.encode()])))
    assert found == pytest.approx(predictors["letters"].predict([text]).numpy(), abs=1e-5)


# Images


def test_an_image_is_the_same_in_base64_as_bytes_and_as_pixels(
    server: ServerProcess, predictors: Mapping[str, Predictor]
) -> None:
    image = Image.open(io.BytesIO(picture(3))).resize((64, 64))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    file = buffer.getvalue()
    expected = predictors["colours"].predict([file]).numpy()
    in_json = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1, 1],
        "data": [[base64.b64encode(file).decode()]],
    }
    assert probabilities(infer(server, "colours", in_json)) == pytest.approx(expected, abs=1e-5)
    as_bytes = text_bytes(file, name="image")
    assert probabilities(infer(server, "colours", as_bytes, rest=pack_elements([file]))) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("rows", [1, 3])
def test_normalised_pixels_are_those_of_levels(server: ServerProcess, rows: int) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (rows, 3, 64, 64), np.uint8)
    tensor, raw = pixels(levels, "UINT8")
    found = probabilities(infer(server, "colours", tensor, rest=raw))
    tensor, raw = pixels(((levels / 255 - 0.5) / 0.5).astype("<f4"), "FP32")
    assert probabilities(infer(server, "colours", tensor, rest=raw)) == pytest.approx(found, abs=1e-5)
    in_json = {"name": "pixel_values", "datatype": "UINT8", "shape": [rows, 3, 64, 64], "data": levels.tolist()}
    assert probabilities(infer(server, "colours", in_json)) == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, 200.0])
def test_values_that_are_no_pixels(server: ServerProcess, value: float) -> None:
    tensor, raw = pixels(np.full((2, 3, 64, 64), value, "<f4"), "FP32")
    check_error(infer(server, "colours", tensor, rest=raw), 400, "invalid_tensor", "these are no pixels")


@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (3, 64, 64), (1, 3, 64, 65), (1, 12288), (65, 3, 64, 64)])
def test_v14_pixels_of_another_shape(server: ServerProcess, shape: tuple[int, ...]) -> None:
    tensor, raw = pixels(np.zeros(shape, np.uint8), "UINT8")
    check_error(infer(server, "colours", tensor, rest=raw), 400, "invalid_tensor")


def test_v05_an_image_and_pixels_at_once(server: ServerProcess) -> None:
    tensor, raw = pixels(np.zeros((1, 3, 64, 64), np.uint8), "UINT8")
    reply = infer(server, "colours", tensor, text_bytes(b"a", name="image"), rest=raw + pack_elements([b"a"]))
    check_error(reply, 400, "invalid_tensor", "'image' or 'pixel_values'; send one of them")
    check_error(infer(server, "colours"), 400, "invalid_tensor", "send one of them")


@pytest.mark.parametrize(
    ("file", "status", "code"),
    [(b"", 400, "empty_body"), (b"text", 422, "image_undecodable"), (picture(1)[:80], 422, "image_truncated")],
)
def test_files_that_are_no_images_fail_whole(server: ServerProcess, file: bytes, status: int, code: str) -> None:
    files = [picture(1), file]
    reply = infer(server, "colours", text_bytes(*files, name="image"), rest=pack_elements(files))
    check_error(reply, status, code, "instance 1: ")


def test_i17_images_that_are_no_base64(server: ServerProcess) -> None:
    for text in ("YQ", "_-8=", "data:image/png;base64,YQ==", "\u00e9"):
        check_error(infer(server, "colours", text_input(text, name="image")), 400, "invalid_base64")


@pytest.mark.parametrize("is_raw", [True, False])
def test_a_file_over_the_limit_of_one_image(server: ServerProcess, is_raw: bool) -> None:
    file = bytes(17 * MEBI)
    if is_raw:
        headers = {"Inference-Header-Content-Length": "0"}
        reply = server.request("POST", "/v2/models/colours/infer", file, headers)
    else:
        reply = infer(server, "colours", text_bytes(file, name="image"), rest=pack_elements([file]))
    check_error(reply, 413, "body_too_large", "image 0 has")


def test_v10_tensors_up_to_the_largest_body(server: ServerProcess) -> None:
    head = body_of({**pixels(np.zeros((1, 3, 64, 64), np.uint8), "UINT8")[0]})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    for size, status in ((64 * MEBI, 400), (64 * MEBI + 1, 413)):
        body = head + bytes(size - len(head))
        assert server.request("POST", "/v2/models/colours/infer", body, headers).status == status
    assert json.loads(server.request("GET", "/v2/models/colours/ready").body) == {"name": "colours", "ready": True}
