"""FAULTS 3, V10 to V14: whatever else is in a request of the Open Inference Protocol, straight to the application."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest

from tests.service.api.oip.infer_bodies import (
    GOOD,
    ask,
    body_of,
    check_error,
    refused,
    text_input,
)
from tests.service.site import Play, Site

# V10


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[:-1],
        lambda body: body[:10],
        lambda body: body + b"\0",
        lambda body: body * 2,
        lambda body: b"",
        lambda _: b"{}",
    ],
    ids=["cut", "cut early", "longer", "twice", "nothing", "plain"],
)
def test_v10_damaged_streams(play: Play, encoding: str, damage: Any) -> None:
    async def story(site: Site) -> None:
        packed = gzip.compress(GOOD) if encoding == "gzip" else zlib.compress(GOOD)
        check_error(await ask(site, damage(packed), content_encoding=encoding), 400, "invalid_encoding")
        assert (await ask(site, packed, content_encoding=encoding)).status == 200

    play(story)


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x", "gzip;q=1", "\u00e9"])
def test_v10_unknown_encodings(play: Play, encoding: str) -> None:
    async def story(site: Site) -> None:
        check_error(await ask(site, GOOD, content_encoding=encoding), 415, "unsupported_media_type")

    play(story)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_v10_bombs(play: Play, pack: Any) -> None:
    async def story(site: Site) -> None:
        encoding = "gzip" if pack is gzip.compress else "deflate"
        for size in ((2 << 20) + 1, 100 << 20):
            bomb = pack(b" " * size)
            check_error(await ask(site, bomb, content_encoding=encoding), 413, "body_too_large")
        assert (await ask(site, GOOD)).status == 200

    play(story)


# V11


@pytest.mark.parametrize(
    "version", ["2", "01", "-1", "+1", "1.0", "9999999999999999999", "latest", "0", "\u0661", "1 "]
)
def test_v11_versions_that_there_are_not(play: Play, version: str) -> None:
    async def story(site: Site) -> None:
        check_error(await ask(site, GOOD, path=f"letters/versions/{version}"), 404, "version_not_found")
        assert (await ask(site, GOOD, path="letters/versions/1")).json()["model_version"] == "1"

    play(story)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("nobody", 404, "model_not_found"),
        ("..", 400, "invalid_parameter"),
        ("l" * 65, 400, "invalid_parameter"),
        ("letters/versions/1/x", 404, "route_not_found"),
        ("letters/versions//", 404, "route_not_found"),
    ],
)
def test_v11_models_that_there_are_not(play: Play, path: str, status: int, code: str) -> None:
    async def story(site: Site) -> None:
        check_error(await ask(site, GOOD, path=path), status, code)

    play(story)


# V12


@pytest.mark.parametrize("member", ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"])
def test_v12_tensors_in_shared_memory(play: Play, member: str) -> None:
    refused(play, body_of(text_input("1", data=None, parameters={member: "region"})), 501, "not_supported")
    outputs = [{"name": "label", "parameters": {member: "region"}}]
    refused(play, body_of(text_input("1"), outputs=outputs), 501, "not_supported")


@pytest.mark.parametrize("kind", ["system", "cuda"])
@pytest.mark.parametrize(
    "rest", ["status", "region/a/register", "region/a/unregister", "region/a/status", "unregister"]
)
def test_v12_regions(play: Play, kind: str, rest: str) -> None:
    async def story(site: Site) -> None:
        for method in ("GET", "POST"):
            reply = await site.request(method, f"/v2/{kind}sharedmemory/{rest}", b"{}")
            check_error(reply, 501, "not_supported")

    play(story)


# V13


@pytest.mark.parametrize("given", ["x" * 1025, "a\r\nb", "\0", "\u202e", "\u2028", 1, 1.5, True, [], {}, "\U000e0001"])
def test_v13_what_is_no_id(play: Play, given: Any) -> None:
    refused(play, body_of(text_input("1"), id=given), 400, "invalid_parameter", "/id: ")


def test_v13_an_id_of_a_megabyte_or_none(play: Play) -> None:
    refused(play, body_of(text_input("1"), id="x" * (1 << 20)), 400, "invalid_parameter")
    refused(play, GOOD.replace(b"{", b'{"id": null, ', 1), 400, "invalid_parameter")


@pytest.mark.parametrize("given", ["1", " a b ", "\u00e9\u4e2d\U0001f600", '"\\/<>&', "x" * 1024, "\u00e9" * 1024])
def test_v13_an_id_comes_back_as_it_is(play: Play, given: str) -> None:
    async def story(site: Site) -> None:
        assert (await ask(site, body_of(text_input("1"), id=given))).json()["id"] == given
        assert "id" not in (await ask(site, GOOD)).json()

    play(story)


# V14


def test_v14_more_rows_than_a_request_may_have(play: Play) -> None:
    async def story(site: Site) -> None:
        most = body_of(text_input(*map(str, range(64))))
        reply = await ask(site, most)
        assert (reply.status, reply.json()["outputs"][0]["shape"][0]) == (200, 64)
        more = body_of(text_input(*map(str, range(65))))
        check_error(await ask(site, more), 400, "invalid_tensor", "65 rows are over the limit of 64")

    play(story)


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_v14_ragged_rows(play: Play, datatype: str) -> None:
    refused(play, body_of(text_input(data=[["1", "2"], ["3"]], shape=[2, 2], datatype=datatype)))
