"""The real server over real HTTP, in the state in which it is meant to stay: up. How it ends is in test_lifecycle."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.predictor import Predictor
from models.repository import ModelRepository
from service.worker.registry import Registry
from tests.processes import wait_for
from tests.server_process import Reply, ServerProcess, json_body
from tests.tiny_models import LETTERS, TorchEngines, picture

FORM = {"content-type": "application/x-www-form-urlencoded"}  # what curl --data-binary says
TOLERANCE = 1e-5
Image.MAX_IMAGE_PIXELS = None


@pytest.fixture(scope="module")
def predictors(models_on_disk: Path) -> Mapping[str, Predictor]:
    """The same models in this process."""
    registry = Registry(ModelRepository(models_on_disk), TorchEngines())
    return {name: registry.load(name, 1).predictor for name in ("colours", "letters", "moods")}


@pytest.fixture(autouse=True)
def _nothing_dies(server: ServerProcess) -> Iterator[None]:
    """After every case the same worker answers the next request, and every line of the log is one JSON object."""
    before = server.workers()
    yield
    assert server.workers() == before
    assert server.predict("letters", ["still there?"]).status == 200


def scores(reply: Reply, labels: Sequence[str]) -> list[list[float]]:
    assert reply.status == 200, reply.body
    return [[prediction["scores"][label] for label in labels] for prediction in reply.json()["predictions"]]


def check(reply: Reply, predictor: Predictor, items: Sequence[Any]) -> None:
    """An answer is that of the same model in this process."""
    wanted = predictor.predict(items).tolist()
    for found, expected in zip(scores(reply, predictor.labels), wanted, strict=True):
        assert found == pytest.approx(expected, abs=TOLERANCE)


def check_refusal(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.json().get("code")) == (status, code), reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    assert set(reply.json()) == {"type", "title", "status", "code", "detail", "request_id"}
    assert reply.json()["request_id"] == reply.headers["x-request-id"]
    for secret in (b"/tmp", b"Traceback", b"Error(", b".py", b"object at"):
        assert secret not in reply.body


def send_image(server: ServerProcess, data: bytes, media_type: str | None = "image/jpeg") -> Reply:
    headers = {} if media_type is None else {"content-type": media_type}
    return server.request("POST", "/v1/models/colours:predict", data, headers)


def encoded(*images: bytes) -> bytes:
    return json_body([{"b64": base64.b64encode(image).decode()} for image in images])


# What it is for


def test_one_raw_image_as_curl_sends_it(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    for file_format in ("PNG", "JPEG", "WEBP"):
        image = picture(1, file_format=file_format)
        for headers in (FORM, {"content-type": "application/octet-stream"}, {"content-type": "image/png"}):
            check(server.request("POST", "/v1/models/colours:predict", image, headers), predictors["colours"], [image])


def test_images_in_json_and_in_a_form(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    images = [picture(2), picture(3, size=(300, 100), file_format="JPEG")]
    check(server.request("POST", "/v1/models/colours:predict", encoded(*images)), predictors["colours"], images)
    parts = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="i"; filename="i"\r\n\r\n%s\r\n' % i for i in images
    )
    headers = {"content-type": "multipart/form-data; boundary=XX"}
    reply = server.request("POST", "/v1/models/colours:predict", parts + b"--XX--\r\n", headers)
    check(reply, predictors["colours"], images)


def test_texts_in_json_and_one_plain_text(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    texts = ["first", "the second one, which is longer", "3!"]
    for model in ("letters", "moods"):
        check(server.predict(model, texts), predictors[model], texts)
    plain = server.request("POST", "/v1/models/letters:predict", b"{ plain", {"content-type": "text/plain"})
    check(plain, predictors["letters"], ["{ plain"])


def test_versions_labels_and_options(server: ServerProcess) -> None:
    reply = server.request("POST", "/v1/models/letters/versions/1:predict?top_k=2", json_body(["abc"]))
    prediction = reply.json()["predictions"][0]
    assert len(prediction["scores"]) == 2
    assert list(prediction["scores"].values()) == sorted(prediction["scores"].values(), reverse=True)
    assert prediction["label"] == next(iter(prediction["scores"]))
    assert (reply.json()["model"], reply.json()["version"]) == ("letters", 1)
    check_refusal(
        server.request("POST", "/v1/models/letters/labels/champion:predict", json_body(["abc"])),
        404,
        "version_not_found",
    )
    assert sum(server.predict("letters", ["abc"]).json()["predictions"][0]["scores"].values()) == pytest.approx(1)


def test_the_other_routes(server: ServerProcess) -> None:
    assert server.request("GET", "/v1/models").json() == {"models": ["colours", "letters", "moods"]}
    status = server.request("GET", "/v1/models/letters").json()
    assert status["versions"] == [{"version": 1, "state": "ready"}]
    metadata = server.request("GET", "/v1/models/letters/metadata").json()
    assert metadata["labels"] == list(LETTERS)
    assert server.request("GET", "/health/live").json() == {"live": True}
    assert server.request("GET", "/health/ready").json() == {"ready": True}
    assert server.metric("graftwork_loaded_versions") == {(name, "1"): 1 for name in ("colours", "letters", "moods")}
    for path in ("/v1/models", "/v1/models/letters", "/v1/models/letters/metadata", "/health/ready", "/metrics"):
        head = server.request("HEAD", path)
        assert (head.status, head.body) == (200, b"")
    for method, path, allow in [("GET", "/v1/models/letters:predict", "POST"), ("DELETE", "/v1/models/letters", "GET")]:
        reply = server.request(method, path)
        check_refusal(reply, 405, "method_not_allowed")
        assert allow in reply.headers["allow"]
    check_refusal(server.request("GET", "/docs"), 404, "route_not_found")
    assert "server" not in server.request("GET", "/health/live").headers


def test_many_at_once_each_get_their_own_answer(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    """32 threads, three models, unique inputs: nothing is crossed or lost, and rows did share batches."""
    asked: list[tuple[str, list[Any]]] = []
    for number in range(64):
        asked.append(("colours", [picture(1000 + number)]))
        asked.append(("letters", [f"letter {number}", f"{number} and more of it"[: 5 + number % 20]]))
        asked.append(("moods", [f"mood {number * 7919}"]))
    random.Random(0).shuffle(asked)
    wanted = {
        name: iter(
            predictors[name].predict([item for model, items in asked if model == name for item in items]).tolist()
        )
        for name in predictors
    }
    expected = [[next(wanted[model]) for _ in items] for model, items in asked]
    told_apart = {
        (model, *(round(score, 4) for score in row))
        for (model, _), rows in zip(asked, expected, strict=True)
        for row in rows
    }
    assert len(told_apart) > 0.9 * sum(len(items) for _, items in asked)

    def ask(request: tuple[str, list[Any]]) -> Reply:
        model, items = request
        if model == "colours":
            return send_image(server, items[0], "image/png")
        return server.predict(model, items)

    before = server.metric("graftwork_requests_total"), batches(server)
    with ThreadPoolExecutor(32) as threads:
        replies = list(threads.map(ask, asked))
    for (model, _), rows, reply in zip(asked, expected, replies, strict=True):
        assert reply.json()["model"] == model
        for found, row in zip(scores(reply, predictors[model].labels), rows, strict=True):
            assert found == pytest.approx(row, abs=TOLERANCE)
    counted = Counter(server.metric("graftwork_requests_total"))
    counted.subtract(before[0])
    assert +counted == {(model, "ok", "1"): 64 for model in predictors}
    rows_before, batches_before = before[1]
    rows_after, batches_after = batches(server)
    assert rows_after - rows_before == sum(len(items) for _, items in asked)
    assert rows_after - rows_before > batches_after - batches_before
    assert server.metric("graftwork_in_flight_rows") == server.metric("graftwork_in_flight_requests") == {(): 0}


def batches(server: ServerProcess) -> tuple[float, float]:
    """Rows computed, and batches."""
    return (
        sum(server.metric("graftwork_batch_size_rows_sum").values()),
        sum(server.metric("graftwork_batch_size_rows_count").values()),
    )


def test_a_bad_image_among_good_ones_fails_alone(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    images = [picture(2000 + number) for number in range(32)]
    images[13] = images[13][:-20]
    with ThreadPoolExecutor(32) as threads:
        replies = list(threads.map(lambda image: send_image(server, image), images))
    check_refusal(replies.pop(13), 422, "image_truncated")
    images.pop(13)
    wanted = predictors["colours"].predict(images).tolist()
    for reply, expected in zip(replies, wanted, strict=True):
        assert scores(reply, predictors["colours"].labels)[0] == pytest.approx(expected, abs=TOLERANCE)


def test_every_request_is_counted_and_logged_once(server: ServerProcess) -> None:
    """Conservation: requests sent == ok + client_error + shed + timeout + failed."""
    before = Counter(server.metric("graftwork_requests_total"))
    sent: Counter[tuple[str, str, str]] = Counter()
    ids = []
    for number in range(40):
        model, instances, outcome, version = [
            ("letters", ["a"], "ok", "1"),
            ("letters", [""], "client_error", "1"),
            ("moods", 3, "client_error", "1"),
            (f"made-up-{number}", ["a"], "client_error", "_unknown"),
        ][number % 4]
        ids.append(f"conserved-{number}")
        server.predict(model, instances, **{"x-request-id": ids[-1]})
        sent[model if version == "1" else "_unknown", outcome, version] += 1
    after = Counter(server.metric("graftwork_requests_total"))
    after.subtract(before)
    assert +after == sent

    def logged() -> Counter[str]:
        return Counter(record["request_id"] for record in server.records() if "request_id" in record)

    wait_for(lambda: ids[-1] in logged(), 5)  # lines are written a moment later
    assert {request: logged()[request] for request in ids} == dict.fromkeys(ids, 1)


def test_h16_a_request_id_cannot_forge_a_record(server: ServerProcess) -> None:
    evil = 'x","status":999,"forged":"yes'
    reply = server.request("GET", "/health/live?a=%0a%22", headers={"x-request-id": evil})
    assert reply.headers["x-request-id"] != evil
    server.request("GET", '/v1/models/%0A{"forged":1}')
    assert not any("forged" in record or record.get("status") == 999 for record in server.records())


# FAULTS 1: images


def png(width: int, height: int, *chunks: tuple[bytes, bytes], rows: bytes = b"") -> bytes:
    """A PNG file by hand: whatever its header says, its pixels are `rows`."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    every = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in every
    )


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


JPEG = picture(7, size=(200, 150), file_format="JPEG")


@pytest.mark.parametrize(
    "media_type", ["image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded", None]
)
def test_i01_no_bytes(server: ServerProcess, media_type: str | None) -> None:
    check_refusal(send_image(server, b"", media_type), 400, "empty_body")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_i02_a_truncated_jpeg(server: ServerProcess, share: float) -> None:
    check_refusal(send_image(server, JPEG[: int(len(JPEG) * share)]), 422, "image_truncated")


def test_i02_only_the_start_of_an_image(server: ServerProcess) -> None:
    check_refusal(send_image(server, JPEG[:2]), 422, "image_truncated")


@pytest.mark.parametrize("data", [random.Random(0).randbytes(1024), b"some text", b"\x7fELF\x02\x01\x01" + bytes(100)])
def test_i03_no_image(server: ServerProcess, data: bytes) -> None:
    check_refusal(send_image(server, data), 422, "image_undecodable")


@pytest.mark.parametrize("side", [50_000, 13_340])
def test_i04_i05_too_many_pixels_are_refused_before_they_are_allocated(server: ServerProcess, side: int) -> None:
    image = png(side, side, rows=bytes(1000))
    (worker,) = server.workers()
    before = peak_memory(worker)
    durations = []
    for _ in range(3):
        started = time.perf_counter()
        check_refusal(send_image(server, image), 413, "image_too_many_pixels")
        durations.append(time.perf_counter() - started)
    assert min(durations) < 0.05
    assert peak_memory(worker) - before < 20 << 20


def peak_memory(pid: int) -> int:
    """Bytes (proc(5), VmHWM)."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_i06_compressed_text_bombs(server: ServerProcess) -> None:
    bomb = zlib.compress(bytes(50 << 20), 9)
    for chunk in [
        (b"zTXt", b"Comment\0\0" + bomb),
        (b"iCCP", b"icc\0\0" + bomb),
        (b"iTXt", b"Comment\0\1\0\0\0" + bomb),
    ]:
        durations = []
        for _ in range(3):
            started = time.perf_counter()
            assert send_image(server, png(2, 2, chunk, rows=bytes(14))).status in (200, 413, 422)
            durations.append(time.perf_counter() - started)
        assert min(durations) < 0.2


def test_i06_a_body_over_the_limit(server: ServerProcess) -> None:
    answer = server.raw(
        b"POST /v1/models/colours:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 62914560\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in answer
    assert json.loads(body)["code"] == "body_too_large"


@pytest.mark.parametrize("size", [(1, 1), (100, 1), (1, 100)])
def test_i07_the_smallest_images(server: ServerProcess, size: tuple[int, int]) -> None:
    assert send_image(server, picture(1, size=size)).status == 200


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000)])
def test_i08_strips(server: ServerProcess, size: tuple[int, int]) -> None:
    check_refusal(send_image(server, picture(1, size=size)), 422, "aspect_ratio")


@pytest.mark.parametrize("mode", ["L", "I;16", "1", "P", "RGBA", "LA", "CMYK"])
def test_i09_modes(server: ServerProcess, predictors: Mapping[str, Predictor], mode: str) -> None:
    image = Image.open(io.BytesIO(JPEG))
    converted = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    data = saved(converted, "JPEG" if mode == "CMYK" else "PNG")
    check(send_image(server, data), predictors["colours"], [data])


def test_i10_all_orientations_are_the_same_picture(server: ServerProcess) -> None:
    upright = Image.open(io.BytesIO(picture(5, size=(60, 40))))
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    answers = []
    for orientation, transposition in undo.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = upright if transposition is None else upright.transpose(transposition)
        reply = send_image(server, saved(stored, "PNG", exif=exif))
        answers.append(scores(reply, ["red", "green", "blue"])[0])
    for answer in answers:
        assert answer == pytest.approx(answers[0], abs=TOLERANCE)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP"])
def test_i11_animations(server: ServerProcess, file_format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    data = saved(frames[0], file_format, save_all=True, append_images=frames[1:])
    check_refusal(send_image(server, data), 415, "format_not_allowed")


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"%PDF-1.7",
        b"\xd7\xcd\xc6\x9a" + bytes(40),
        b"8BPS" + bytes(40),
        b"SIMPLE  =                    T",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"icns" + bytes(40),
        b"II*\0" + b"\xff" * 40,
        b"\0\0\0\x1cftypheic" + bytes(20),
        b"\0\0\0\x1cftypavif" + bytes(20),
        saved(Image.new("RGB", (4, 4)), "TIFF"),
        saved(Image.new("RGB", (4, 4)), "BMP"),
        saved(Image.new("RGB", (4, 4)), "GIF"),
    ],
    ids=["svg", "eps", "pdf", "wmf", "psd", "fits", "jp2", "icns", "tiff", "heic", "avif", "tiff", "bmp", "gif"],
)
def test_i13_i14_formats_that_are_not_accepted(server: ServerProcess, data: bytes) -> None:
    check_refusal(send_image(server, data), 415, "format_not_allowed")


def test_i15_the_bytes_decide_not_the_name(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    check(send_image(server, picture(1), "image/jpeg"), predictors["colours"], [picture(1)])
    check(send_image(server, JPEG, "image/png"), predictors["colours"], [JPEG])


@pytest.mark.parametrize("tail", [b"PK\x03\x04 and a zip file", b"<html><script>alert(1)</script>"])
def test_i16_something_else_behind_the_image(server: ServerProcess, tail: bytes) -> None:
    reply = send_image(server, JPEG + tail)
    assert reply.status == 200
    assert tail not in reply.body


@pytest.mark.parametrize("text", ["YQ", "Y Q==", "_-8=", "YQ==\n", "data:image/png;base64,YQ=="])
def test_i17_base64(server: ServerProcess, text: str) -> None:
    reply = server.request("POST", "/v1/models/colours:predict", json_body([{"b64": text}]))
    check_refusal(reply, 400, "invalid_base64")


# FAULTS 2: texts


@pytest.mark.parametrize("text", ["", " ", "\t\n\u00a0\u3000"])
def test_t01_no_text(server: ServerProcess, text: str) -> None:
    check_refusal(server.predict("letters", [text]), 422, "empty_text")
    plain = server.request("POST", "/v1/models/letters:predict", text.encode(), {"content-type": "text/plain"})
    check_refusal(plain, 422, "empty_text")


def test_t02_a_text_that_is_too_long(server: ServerProcess) -> None:
    check_refusal(server.predict("letters", ["a" * (10 << 20)]), 413, "body_too_large")
    check_refusal(server.predict("letters", ["a" * ((1 << 20) + 1)]), 413, "text_too_long")


def test_t03_more_tokens_than_the_model_reads(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    text = "a b c " * 200
    check_refusal(server.predict("letters", [text]), 422, "context_length_exceeded")
    cut = server.predict("letters", [text], "?truncate=true")
    check(cut, predictors["letters"], [text])
    assert cut.json()["predictions"][0]["truncated"] is True


def test_t04_t05_bytes_and_escapes_that_are_no_text(server: ServerProcess) -> None:
    for model in ("letters", "colours"):
        for body, code in [
            (b'{"instances": ["\xff"]}', "invalid_utf8"),
            (b'{"instances": ["\\ud800"]}', "invalid_unicode"),
        ]:
            check_refusal(
                server.request("POST", f"/v1/models/{model}:predict", body, {"content-type": "application/json"}),
                400,
                code,
            )
    plain = server.request("POST", "/v1/models/letters:predict", b"caf\xe9", {"content-type": "text/plain"})
    check_refusal(plain, 400, "invalid_utf8")


@pytest.mark.parametrize(
    "text",
    [
        "a\x00\x01\x1b[31m\x7f\u0085",
        "\ufeffa",
        "a\ufffe",
        "\u202eabc",
        "a \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "e\u0301 \u00e9",
        "[CLS] [SEP] </s> <|endoftext|> <image> [MASK]",
    ],
)
def test_t06_t07_t08_odd_texts_are_texts(server: ServerProcess, predictors: Mapping[str, Predictor], text: str) -> None:
    check(server.predict("letters", [text]), predictors["letters"], [text])


def test_t07_ten_thousand_combining_marks(server: ServerProcess) -> None:
    started = time.perf_counter()
    assert server.predict("letters", ["a" + "\u0301" * 10_000], "?truncate=true").status in (200, 422)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("texts", "status", "code"),
    [
        (["a"] * 64, 200, None),
        (["a"] * 65, 413, "too_many_instances"),
        ([], 422, "invalid_instances"),
        (["a", "", "b"], 422, "empty_text"),
    ],
)
def test_t10_lists(server: ServerProcess, texts: list[str], status: int, code: str | None) -> None:
    reply = server.predict("letters", texts)
    if code is None:
        assert (reply.status, len(reply.json()["predictions"])) == (200, len(texts))
    else:
        check_refusal(reply, status, code)
    if code == "empty_text":
        assert reply.json()["detail"].startswith("instance 1: ")


# FAULTS 3: JSON


@pytest.mark.parametrize("model", ["letters", "colours"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"instances": ["a",]}', b'{"instances": ["a"]} //', b'{"instances": ["a"]}{}']
)
def test_j01_no_json(server: ServerProcess, model: str, body: bytes) -> None:
    reply = server.request("POST", f"/v1/models/{model}:predict", body, {"content-type": "application/json"})
    check_refusal(reply, 400, "invalid_json")


@pytest.mark.parametrize("depth", [101, 100_000, 250_000])
def test_j02_too_deep(server: ServerProcess, depth: int) -> None:
    durations = []
    for _ in range(3):
        started = time.perf_counter()
        reply = server.request("POST", "/v1/models/letters:predict", b"[" * depth + b"]" * depth)
        durations.append(time.perf_counter() - started)
        check_refusal(reply, 400, "json_too_deep")
    assert min(durations) < 0.05


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999"])
def test_j03_not_finite(server: ServerProcess, number: bytes) -> None:
    reply = server.request("POST", "/v1/models/letters:predict", b'{"instances": [%s]}' % number)
    check_refusal(reply, 400, "non_finite")


def test_compressed_bodies(server: ServerProcess) -> None:
    reply = server.request("POST", "/v1/models/letters:predict", zlib.compress(b"{}"), {"content-encoding": "deflate"})
    check_refusal(reply, 415, "unsupported_media_type")


# FAULTS 4: HTTP, as far as it is ours


def test_a_chunked_body_is_read_no_further_than_the_limit(server: ServerProcess) -> None:
    chunk = b"%x\r\n%s\r\n" % (1 << 16, b" " * (1 << 16))
    request = b"POST /v1/models/letters:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    try:
        answer = server.raw(request + chunk * 40 + b"0\r\n\r\n")
    except ConnectionError:  # the answer came, and the end, while we were still sending
        return
    assert answer.startswith(b"HTTP/1.1 413")


def test_h06_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    body = json_body(["a"])
    one = b"POST /v1/models/letters:predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: r%d\r\nContent-Length: %d\r\n\r\n%s"
    requests = b"".join(one % (number, len(body), body) for number in range(20))
    answer = server.raw(requests + b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    ids = [line.split(b": ")[1] for line in answer.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert ids[:20] == [b"r%d" % number for number in range(20)]


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc", "%2e%2e", "..%5c", "%00", "%ff", "a%2fb", "%252e%252e", "x" * 300, "a%20b"]
)
def test_h09_names_that_are_paths(server: ServerProcess, name: str) -> None:
    for method, suffix in (("GET", ""), ("POST", ":predict")):
        reply = server.request(method, f"/v1/models/{name}{suffix}", b"{}" if method == "POST" else None)
        assert reply.status in (400, 404)
        assert reply.headers["content-type"] == "application/problem+json"


def test_no_cross_origin_reads(server: ServerProcess) -> None:
    reply = server.request("GET", "/v1/models", headers={"origin": "https://evil.example"})
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_every_line_of_the_log_is_one_json_object(server: ServerProcess) -> None:
    records = server.records()
    assert {record["level"] for record in records} <= {"info", "warning"}
    assert not [record for record in records if "traceback" in record]


def test_an_unmodified_client_of_the_inference_protocol_sees_that_it_is_ready(server: ServerProcess) -> None:
    pytest.importorskip("tritonclient", reason="needs the extra: graftwork[triton]")
    code = (  # in a process of its own: importing gevent changes this one
        "import sys, tritonclient.http as http\n"
        "client = http.InferenceServerClient(sys.argv[1])\n"
        "assert client.is_server_live() and client.is_server_ready()\n"
    )
    subprocess.run([sys.executable, "-c", code, f"127.0.0.1:{server.port}"], check=True, timeout=60)


def test_the_engine_that_is_chosen_answers_as_torch_does_and_logs_json(
    server: ServerProcess, models_on_disk: Path, tmp_path: Path
) -> None:
    chosen = ServerProcess(
        repository=models_on_disk, options=("--engine", "openvino", "--cache-dir", str(tmp_path / "cache"))
    )
    try:
        chosen.wait_until_ready()
        for name, instances in [("letters", ["it is a", "it is 7, and more of it"]), ("moods", ["glad"])]:
            wanted = server.predict(name, instances).json()["predictions"]
            found = chosen.predict(name, instances).json()["predictions"]
            assert [each["label"] for each in found] == [each["label"] for each in wanted]
            for one, other in zip(found, wanted, strict=True):
                assert one["scores"] == pytest.approx(other["scores"], abs=1e-3)
        said = [record["message"] for record in chosen.records()]  # each line is an object
        assert any("runs on openvino" in message for message in said)
    finally:
        chosen.destroy()
