"""FAULTS 3, V01 to V08: tensors in the Open Inference Protocol, straight to the application."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from service.api.oip.tensor import pack_elements
from tests.service.api.oip.infer_bodies import (
    GOOD,
    ask,
    ask_binary,
    body_of,
    check_error,
    refused,
    refused_bytes,
    text_bytes,
    text_input,
)
from tests.service.site import Play, Site

# V01


@pytest.mark.parametrize("shape", [[1], [3], [1, 1], [2, 2], [1, 2]])
def test_v01_more_or_less_values_than_the_shape_says(play: Play, shape: list[int]) -> None:
    refused(play, body_of(text_input("1", "2", shape=shape)))
    refused_bytes(play, text_bytes(b"1", b"2", shape=shape), pack_elements([b"1", b"2"]))


@pytest.mark.parametrize(
    "data", [[], [["1"], []], [["1", "2"]], [["1"], ["2"], ["3"]], [["1"], "2"], [["1"], {}], [["1"], None]]
)
def test_v01_lists_that_are_not_as_the_shape_says(play: Play, data: list[Any]) -> None:
    refused(play, body_of(text_input(data=data, shape=[2, 1])))


def test_v01_lists_that_are_deeper_than_the_shape_says(play: Play) -> None:
    nested = text_input(data=[[["1"]], [["2"]]], shape=[2, 1])
    refused(play, body_of(nested), 422, "invalid_value", "/inputs/0/data/0/0: ")


@pytest.mark.parametrize("data", [["1", "2"], [["1"], ["2"]]])
def test_v01_flat_and_nested_lists_are_the_same(play: Play, data: list[Any]) -> None:
    async def story(site: Site) -> None:
        assert (await ask(site, body_of(text_input(data=data, shape=[2, 1])))).status == 200

    play(story)


# V02, V03


@pytest.mark.parametrize(
    "shape",
    [
        *([-1], [0], [1.0], [1.5], ["1"], [True], [None], [[1]], [1, 0], [1] * 9, [1 << 64], "1", 1, {}, None, False),
        *([], [1, 1, 1], [2]),
    ],
)
def test_v02_what_is_no_shape_of_these_tensors(play: Play, shape: Any) -> None:
    tensor = text_input("1")
    tensor["shape"] = shape
    refused(play, body_of(tensor))


@pytest.mark.parametrize(
    "shape",
    [[16, (1 << 60) + 2], [1 << 62, 4], [4, (1 << 60) + 2], [(1 << 64) - 1], [1 << 16, 1 << 16], [1 << 60] * 8],
)
@pytest.mark.parametrize("datatype", ["BYTES", "FP32"])
def test_v03_more_elements_than_anything_holds(play: Play, shape: list[int], datatype: str) -> None:
    refused(play, body_of(text_input(shape=shape, datatype=datatype)), 400, "shape_overflow")
    refused_bytes(play, text_bytes(shape=shape, datatype=datatype), b"", "shape_overflow")


# V04


@pytest.mark.parametrize(
    "datatype", ["", "bytes", "Bytes", "STRING", "TYPE_STRING", "FP8", "INT128", 1, None, ["BYTES"]]
)
def test_v04_unknown_datatypes(play: Play, datatype: Any) -> None:
    tensor = text_input("1")
    tensor["datatype"] = datatype
    refused(play, body_of(tensor), 400, "invalid_tensor", "the datatype of 'text' must be one of")


@pytest.mark.parametrize(
    "datatype",
    ["BOOL", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64", "UINT8"],
)
def test_v04_other_datatypes_than_the_model_reads(play: Play, datatype: str) -> None:
    refused(play, body_of(text_input(1, datatype=datatype)))
    sizes = {"BOOL": 1, "BF16": 2, "UINT8": 1, "INT8": 1}
    size = sizes.get(datatype) or int(datatype[-2:]) // 8
    tensor = text_input(datatype=datatype, shape=[1], data=None, parameters={"binary_data_size": size})
    refused_bytes(play, tensor, bytes(size))


# V05


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (body_of(), "the input 'text' is missing"),
        (b"{}", "the input 'text' is missing"),
        (body_of(text_input("1"), text_input("2")), "the input 'text' is there twice"),
        (body_of(text_input("1", name="Text")), "there is no input 'Text'; this model reads 'text'"),
        (body_of(text_input("1", name="")), "there is no input ''"),
        (body_of(text_input("1", name="x\n" * 50_000)), "there is no input 'x\\nx"),
        (body_of(text_input("1"), text_input("1", name="image")), "there is no input 'image'"),
        (body_of(*[text_input("1")] * 17), "more than 16"),
        (body_of(text_input("1"), outputs=[{"name": "nothing"}]), "there is no output 'nothing'"),
        (body_of(text_input("1"), outputs=[{"name": "y" * 50_000}]), "there is no output 'yyy"),
        (body_of(text_input("1"), outputs=[{"name": "label"}] * 2), "the output 'label' is there twice"),
        (body_of(text_input("1"), outputs=[{"name": "label"}] * 17), "more than 16"),
        (body_of(text_input("1", data=None)), "neither 'data' nor 'binary_data_size'"),
    ],
)
def test_v05_inputs_and_outputs(play: Play, body: bytes, part: str) -> None:
    refused(play, body, 400, "invalid_tensor", part)


@pytest.mark.parametrize("member", ["shape", "datatype", "data"])
def test_v05_the_name_of_a_tensor_is_not_sent_back_whole(play: Play, member: str) -> None:
    refused(play, body_of({**text_input("1", "2", name="\x1b" * 60_000), member: []}))


def test_outputs_that_are_none_are_all_of_them(play: Play) -> None:
    async def story(site: Site) -> None:
        for members in ({}, {"outputs": []}):
            reply = await ask(site, body_of(text_input("1"), **members))
            assert len(reply.json()["outputs"]) == 4

    play(story)


# V06, V07


@pytest.mark.parametrize(
    "header",
    [
        *("99999999999", "-1", "abc", "+5", "", " ", "5 5", "1e2", "0x10", "1.0", "\u00b2", "9" * 5000, "1_0"),
        *("5, 5", "{size_and_one}"),
    ],
)
def test_v06_what_is_no_length_of_this_body(play: Play, header: str) -> None:
    async def story(site: Site) -> None:
        head, rest = body_of(text_bytes(b"1")), pack_elements([b"1"])
        value = header.format(size_and_one=len(head) + len(rest) + 1)
        check_error(await ask(site, head, rest, inference_header_content_length=value), 400, "bad_request")
        assert (await ask_binary(site, head, rest)).status == 200

    play(story)


@pytest.mark.parametrize("off", [-30, -2, -1, 1, 2, 5])
def test_v06_lengths_that_are_a_little_off(play: Play, off: int) -> None:
    async def story(site: Site) -> None:
        head, rest = body_of(text_bytes(b"1")), pack_elements([b"1"])
        reply = await ask(site, head, rest, inference_header_content_length=str(len(head) + off))
        assert reply.status == 400

    play(story)


def test_v06_a_length_that_cuts_a_character(play: Play) -> None:
    async def story(site: Site) -> None:
        head = '{"id": "\u00e9'.encode()
        check_error(await ask(site, head, inference_header_content_length=str(len(head) - 1)), 400, "invalid_utf8")

    play(story)


def test_v06_a_length_that_is_there_twice(play: Play) -> None:
    async def story(site: Site) -> None:
        names = {"Inference-Header-Content-Length": str(len(GOOD)), "inference-header-content-length": str(len(GOOD))}
        check_error(await site.request("POST", "/v2/models/letters/infer", GOOD, headers=names), 400, "bad_request")

    play(story)


def test_v06_a_length_without_a_body(play: Play) -> None:
    async def story(site: Site) -> None:
        check_error(await ask(site, b"", inference_header_content_length="0"), 400, "empty_body")

    play(story)


@pytest.mark.parametrize("size", [-1, 0, 4, 6, 1 << 40, (1 << 64) - 1, 5.0, "5", True, None, [5]])
def test_v07_sizes_that_are_not_what_follows(play: Play, size: Any) -> None:
    tensor = text_input("1", data=None, parameters={"binary_data_size": size})
    refused_bytes(play, tensor, pack_elements([b"1"]))


def test_v07_tensors_that_share_bytes_or_leave_some(play: Play) -> None:
    raw = pack_elements([b"1"])
    refused_bytes(play, text_bytes(b"1"), raw + b"\0")
    refused_bytes(play, {**text_bytes(b"1"), "data": ["1"]}, raw)
    refused_bytes(play, text_input("1"), raw)

    async def story(site: Site) -> None:
        twice = body_of(text_bytes(b"1"), text_bytes(b"1", name="text_pair"))
        check_error(await ask_binary(site, twice, raw), 400, "invalid_tensor", "only 0 more")
        check_error(await ask(site, body_of(text_bytes(b"1"))), 400, "invalid_tensor", "only 0 more")

    play(story)


# V08


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<I", 2) + b"1",
        struct.pack("<I", 0xFFFFFFFF) + b"1",
        struct.pack(">I", 1) + b"1",
        struct.pack("<I", 1)[:3],
        b"\0" * 8,
        pack_elements([b"1", b""]),
        pack_elements([b"1"]) + b"1",
    ],
)
def test_v08_what_is_no_one_element(play: Play, raw: bytes) -> None:
    tensor = text_input("1", data=None, parameters={"binary_data_size": len(raw)})
    refused_bytes(play, tensor, raw)


def test_v08_a_last_element_that_is_missing(play: Play) -> None:
    refused_bytes(play, text_bytes(b"1", b"2", shape=[3]), pack_elements([b"1", b"2"]))


def test_v08_millions_of_empty_elements_are_not_unpacked(play: Play) -> None:
    count = 400_000
    tensor = text_input(data=None, shape=[count], parameters={"binary_data_size": 4 * count})
    refused_bytes(play, tensor, bytes(4 * count))


@pytest.mark.parametrize("text", [b"\xff", b"a\xc3", b"\xed\xa0\x80"])
def test_v08_bytes_that_are_no_text(play: Play, text: bytes) -> None:
    refused_bytes(play, text_bytes(text), pack_elements([text]), "invalid_utf8")
