"""FAULTS 3, J01 to J09: JSON in the Open Inference Protocol, straight to the application."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.errors import InputError
from service.api.oip.infer_json import read_request
from tests.server_process import Reply
from tests.service.api.oip.infer_bodies import body_of, check_error, text_input
from tests.service.site import Play, Site
from tests.stopwatch import quickest

GOOD = body_of(text_input("1"))


async def ask(site: Site, body: bytes) -> Reply:
    return await site.request("POST", "/v2/models/letters/infer", body)


def refused(play: Play, body: bytes, status: int, code: str, *parts: str) -> None:
    async def story(site: Site) -> None:
        check_error(await ask(site, body), status, code, *parts)
        assert (await ask(site, GOOD)).status == 200

    play(story)


def numbers(data: str, datatype: str = "FP32") -> bytes:
    """A request whose one value is this, as it stands."""
    return b'{"inputs": [{"name": "text", "shape": [1], "datatype": "%s", "data": [%s]}]}' % (
        datatype.encode(),
        data.encode(),
    )


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b'{"inputs": [1,]}', b'{"inputs": []} //', b'/* */ {"inputs": []}'),
        *(GOOD + b"x", GOOD + GOOD, b"\0", b"nul", b"'"),
    ],
)
def test_j01_no_json(play: Play, body: bytes) -> None:
    refused(play, body, 400, "invalid_json")


@pytest.mark.parametrize("depth", [101, 100_000, 250_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_j02_too_deep(play: Play, depth: int, opening: bytes, closing: bytes) -> None:
    body = opening * depth + (b"1" if closing == b"}" else b"") + closing * depth
    assert quickest(lambda: refusal(body), bound=0.05) < 0.05
    refused(play, body, 400, "json_too_deep")


def refusal(body: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        read_request(body, None)
    return caught.value


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e39", "-3.41e38"])
def test_j03_not_finite(play: Play, value: str) -> None:
    refused(play, numbers(value), 400, "non_finite")


def test_j04_the_last_of_two_members_counts(play: Play) -> None:
    body = b'{"id": "a", "id": "b", "inputs": [], "inputs": [%s]}' % json.dumps(text_input("1")).encode()

    async def story(site: Site) -> None:
        reply = await ask(site, body)
        assert (reply.status, reply.json()["id"]) == (200, "b")

    play(story)


@pytest.mark.parametrize("value", [str(1 << 63), str(1 << 64), "-1", "256", "1.0", "1e308", "-0.0", "1e0"])
def test_j05_numbers_are_not_made_whole(play: Play, value: str) -> None:
    refused(play, numbers(value, "UINT8"), 422, "invalid_value", "/inputs/0/data/0: ")


@pytest.mark.parametrize("value", ["9" * 5000, "0x10", "01", "1.", ".5", "+1", "1_000"])
def test_j05_what_is_no_number_in_json(play: Play, value: str) -> None:
    async def story(site: Site) -> None:
        assert (await ask(site, numbers(value))).status == 400

    play(story)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", "the body"),
        (b'"a"', "the body"),
        (b'{"inputs": null}', "/inputs: "),
        (b'{"inputs": {}}', "/inputs: "),
        (body_of("text"), "/inputs/0: "),
        (body_of(text_input("1"), None), "/inputs/1: "),
        (body_of(text_input("1", name=1)), "/inputs/0/name: "),
        (body_of(text_input("1", name=None)), "/inputs/0/name: "),
        (body_of(text_input("1", data="1")), "/inputs/0/data: "),
        (body_of(text_input("1", data={})), "/inputs/0/data: "),
        (body_of(text_input("1", 2)), "/inputs/0/data/1: "),
        (body_of(text_input("1", None)), "/inputs/0/data/1: "),
        (body_of(text_input(data=[["1"], [2]], shape=[2, 1])), "/inputs/0/data/1/0: "),
        (body_of(text_input("1", parameters=[])), "/inputs/0/parameters: "),
        (body_of(text_input("1"), parameters="x"), "/parameters: "),
        (body_of(text_input("1"), parameters={"timeout": "1"}), "/parameters/timeout: "),
        (body_of(text_input("1"), parameters={"timeout": 1.5}), "/parameters/timeout: "),
        (body_of(text_input("1"), parameters={"priority": True}), "/parameters/priority: "),
        (body_of(text_input("1"), parameters={"truncate": 1}), "/parameters/truncate: "),
        (body_of(text_input("1"), parameters={"binary_data_output": "true"}), "/parameters/binary_data_output: "),
        (body_of(text_input("1"), outputs={}), "/outputs: "),
        (body_of(text_input("1"), outputs=["label"]), "/outputs/0: "),
        (body_of(text_input("1"), outputs=[{}]), "/outputs/0/name: "),
        (
            body_of(text_input("1"), outputs=[{"name": "label", "parameters": {"binary_data": 1}}]),
            "/outputs/0/parameters/binary_data: ",
        ),
        (
            body_of(text_input("1"), outputs=[{"name": "logits", "parameters": {"classification": -1}}]),
            "/outputs/0/parameters/classification: ",
        ),
        (numbers("true"), "/inputs/0/data/0: "),
        (numbers('"1"'), "/inputs/0/data/0: "),
        (numbers("null"), "/inputs/0/data/0: "),
        (numbers("true", "UINT8"), "/inputs/0/data/0: "),
    ],
)
def test_j06_another_type(play: Play, body: bytes, pointer: str) -> None:
    refused(play, body, 422, "invalid_value", pointer)


def test_j07_unknown_members_are_ignored(play: Play) -> None:
    extra: dict[str, Any] = {"x": [None, {"y": 1}]}
    tensor = text_input("1", parameters={"content_type": "str", **extra}, **extra)
    outputs = [{"name": "label", "parameters": extra, **extra}]

    async def story(site: Site) -> None:
        reply = await ask(site, body_of(tensor, outputs=outputs, parameters={"sequence_id": 7, **extra}, **extra))
        assert reply.status == 200, reply.body

    play(story)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "latin-1"])
def test_j08_other_encodings(play: Play, encoding: str) -> None:
    async def story(site: Site) -> None:
        body = json.dumps({"inputs": [text_input("é1")]}, ensure_ascii=False).encode(encoding)
        reply = await ask(site, body)
        assert reply.status == 400
        assert reply.code in ("invalid_utf8", "invalid_json")

    play(story)


def test_j08_a_byte_order_mark_is_tolerated(play: Play) -> None:
    async def story(site: Site) -> None:
        assert (await ask(site, b"\xef\xbb\xbf" + GOOD)).status == 200

    play(story)


TOO_MUCH = {
    "keys": b"{%s}" % b",".join(b'"%06x":1' % number for number in range(1_000_000)),
    "numbers": numbers("0," * 1_000_000 + "0"),
    "texts": numbers('"",' * 1_000_000 + '""', "BYTES"),
    "lists": numbers("[]," * 500_000 + "[]"),
    "brackets": b"[" * (16 << 20),
    "objects": b'{"inputs":[%s{}]}' % (b"{}," * 500_000),
}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_j09_too_much_is_refused_before_it_is_read(kind: str) -> None:
    error = refusal(TOO_MUCH[kind])
    assert (error.status, error.code) == (413, "body_too_large")
    assert quickest(lambda: refusal(TOO_MUCH[kind]), bound=0.05) < 0.05


@pytest.mark.parametrize("size", [3 << 20, 64 << 20])
def test_j09_megabytes_of_digits(play: Play, size: int) -> None:
    refused(play, b"1" * size, 413, "body_too_large")


@pytest.mark.parametrize(
    "data", ["0," * 500_000 + "0", "0.12345678," * 500_000 + "1", "255," * 500_000 + "1"], ids=["0", "floats", "255"]
)
@pytest.mark.parametrize("datatype", ["FP32", "UINT8"])
def test_j09_the_most_values_that_are_taken_take_a_moment(data: str, datatype: str) -> None:
    body = numbers(data, datatype).replace(b"[1]", b"[500001]")
    bound = 0.15
    if datatype == "UINT8" and "." in data:
        assert refusal(body).code == "invalid_value"
        return
    assert quickest(lambda: read_request(body, None), bound=bound) < bound
