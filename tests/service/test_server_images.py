"""FAULTS 1: images that are asked of the real server."""

from __future__ import annotations

import io
import json
import random
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.predictor import Predictor
from tests.models.pictures import STORED_AS, exif
from tests.server_process import ServerProcess, json_body
from tests.service.answers import TOLERANCE, check, check_refusal, scores, send_image
from tests.tiny_models import picture

pytestmark = pytest.mark.usefixtures("nothing_dies")


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
    answers = []
    for orientation, transposition in STORED_AS.items():
        stored = upright if transposition is None else upright.transpose(transposition)
        reply = send_image(server, saved(stored, "PNG", exif=exif(orientation)))
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
