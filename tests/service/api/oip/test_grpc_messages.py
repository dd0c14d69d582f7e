"""Messages of gRPC, to and from what is asked; and hostile ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from models.errors import BodyTooLarge, GraftworkError, InputError, InvalidMessage, InvalidTensor, NotSupported
from models.version import Reference
from service.api.oip.grpc_calls import parse, status_code
from service.api.oip.grpc_messages import read_request, read_target
from service.api.oip.grpc_outline import MAX_FIELDS, MAX_SMALL_BYTES, check_outline
from service.api.oip.infer import InferRequest
from service.api.oip.infer_json import MAX_VALUES
from service.api.oip.tensor import MAX_BYTES_ELEMENTS, pack_elements
from tests.processes import assert_true
from tests.service.api.oip.grpc_asking import text_request
from tests.service.api.test_problems import tree
from tests.stopwatch import quickest

TensorMessage = service_pb2.ModelInferRequest.InferInputTensor


def typed(datatype: str = "BYTES", shape: tuple[int, ...] = (2,), **contents: Any) -> Any:
    tensor = TensorMessage(
        name="x", datatype=datatype, shape=shape, contents=service_pb2.InferTensorContents(**contents)
    )
    return service_pb2.ModelInferRequest(model_name="m", inputs=[tensor])


def raw(datatype: str, shape: tuple[int, ...], *raws: bytes) -> Any:
    tensor = TensorMessage(name="x", datatype=datatype, shape=shape)
    return service_pb2.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=raws)


def through_the_wire(message: Any) -> InferRequest:
    return understood(message.SerializeToString(), max_rest_bytes=1 << 20)


def understood(data: bytes, *, max_rest_bytes: int) -> InferRequest:
    check_outline(data, max_rest_bytes=max_rest_bytes)
    return read_request(data)


# What is understood


def test_contents_are_the_same_tensors_as_their_bytes() -> None:
    for in_contents, in_bytes in [
        (typed(bytes_contents=[b"a", b""]), raw("BYTES", (2,), pack_elements([b"a", b""]))),
        (typed("FP32", fp32_contents=[0.5, -1]), raw("FP32", (2,), struct.pack("<2f", 0.5, -1))),
        (typed("UINT8", uint_contents=[0, 255]), raw("UINT8", (2,), b"\x00\xff")),
    ]:
        found, wanted = through_the_wire(in_contents).inputs[0], through_the_wire(in_bytes).inputs[0]
        assert (found.name, found.datatype, found.shape, found.raw) == ("x", wanted.datatype, (2,), wanted.raw)
        assert list(found.elements) == list(wanted.elements)


@pytest.mark.parametrize("kind", ["int64_param", "uint64_param"])
def test_whole_parameters_are_of_either_type(kind: str) -> None:
    message = text_request(b"a", id="mine")
    setattr(message.parameters["timeout"], kind, 1_500_000)
    setattr(message.parameters["priority"], kind, 3)
    message.parameters["truncate"].bool_param = True
    message.parameters["whatever"].string_param = "is ignored"
    request = through_the_wire(message)
    assert (request.id, request.timeout_seconds, request.priority, request.truncate) == ("mine", 1.5, 3, True)


def test_whom_a_message_asks_is_known_before_it_is_parsed() -> None:
    message = text_request(b"a", model="letters", model_version="3", outputs=["label"])
    assert read_target(message.SerializeToString(), max_rest_bytes=100) == Reference(name="letters", number=3)
    broken = message.SerializeToString() + b"\x2a\x02\x0a\x00\x32\x01\x00"  # an output that is none
    assert read_target(broken, max_rest_bytes=100).name == "letters"
    with pytest.raises(InvalidMessage):
        read_request(broken)


# What is not


def with_parameter(name: str, **value: Any) -> Any:
    message = text_request(b"a")
    message.parameters[name].CopyFrom(service_pb2.InferParameter(**value))
    return message


def mixed() -> Any:
    message = typed(bytes_contents=[b"a", b"b"])
    message.raw_input_contents.append(pack_elements([b"a", b"b"]))
    return message


def in_shared_memory(*, output: bool) -> Any:
    message = text_request(b"a", outputs=["label"])
    (message.outputs if output else message.inputs)[0].parameters["shared_memory_region"].string_param = "r"
    return message


INVALID = {
    "fewer bytes than the shape": raw("FP32", (2,), b"1234567"),
    "more bytes than the shape": raw("FP32", (2,), bytes(9)),
    "no bytes": raw("FP32", (2,), b""),
    "more raws than inputs": raw("UINT8", (1,), b"1", b"2"),
    "a dimension of 0": raw("UINT8", (0,), b""),
    "a negative dimension": raw("UINT8", (-1,), b"1"),
    "the lowest dimension": raw("UINT8", (-(1 << 63),), b"1"),
    "a huge dimension": raw("UINT8", ((1 << 63) - 1,), b"1"),
    "dimensions whose product overflows": raw("FP32", (4, (1 << 60) + 2, 4), b"1"),
    "nine dimensions": raw("UINT8", (1,) * 9, b"1"),
    "a datatype in lower case": raw("uint8", (1,), b"1"),
    "no datatype": raw("", (1,), b"1"),
    "elements that are cut": raw("BYTES", (1,), b"\x05\x00\x00\x00abcd"),
    "an element of 4 GiB": raw("BYTES", (1,), b"\xff\xff\xff\xffabcd"),
    "half a length": raw("BYTES", (1,), b"\x00\x00"),
    "an element too few": raw("BYTES", (2,), pack_elements([b"a"])),
    "an element too many": raw("BYTES", (1,), pack_elements([b"a", b"b"])),
    "no contents": typed(),
    "contents of another type": typed("FP32", uint_contents=[1, 2]),
    "contents of two types": typed("FP32", fp32_contents=[1, 2], int_contents=[1]),
    "fewer contents than the shape": typed("FP32", fp32_contents=[1]),
    "contents for a huge shape": typed("FP32", (1 << 30,), fp32_contents=[1]),
    "contents that do not fit": typed("UINT8", uint_contents=[0, 256]),
    "contents that cannot be": typed("FP64", fp64_contents=[0, 256]),
    "contents and bytes": mixed(),
}


@pytest.mark.parametrize("name", INVALID)
def test_a_tensor_that_is_not_what_it_says_is_refused(name: str) -> None:
    with pytest.raises(InvalidTensor):
        through_the_wire(INVALID[name])


@pytest.mark.parametrize(
    "message",
    [
        with_parameter("timeout", int64_param=-1),
        with_parameter("timeout", uint64_param=1 << 63),
        with_parameter("timeout", string_param="1"),
        with_parameter("timeout", double_param=1.0),
        with_parameter("timeout", bool_param=True),
        with_parameter("timeout"),
        with_parameter("priority", int64_param=-1),
        with_parameter("truncate", int64_param=1),
        text_request(b"a", id="a\nb"),
        text_request(b"a", id="x" * 1025),
    ],
)
def test_parameters_of_another_type_or_range_are_refused(message: Any) -> None:
    with pytest.raises(InputError):
        through_the_wire(message)


@pytest.mark.parametrize("output", [False, True])
def test_shared_memory_is_not_supported(output: bool) -> None:
    with pytest.raises(NotSupported):
        through_the_wire(in_shared_memory(output=output))


# Bytes


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    try:
        understood(data, max_rest_bytes=100)
    except GraftworkError as error:
        assert_true(error.status < 500 or isinstance(error, NotSupported))


WHOLE = text_request(b"abc", b"def", outputs=["label"], id="an id").SerializeToString()


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
@settings(max_examples=500, deadline=None)
def test_a_message_with_a_wrong_byte_is_understood_or_refused(at: int, byte: int) -> None:
    try:
        understood(WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :], max_rest_bytes=1000)
    except GraftworkError as error:
        assert_true(error.status < 500 or isinstance(error, NotSupported))


@pytest.mark.parametrize("end", range(1, len(WHOLE)))
def test_the_outline_of_a_part_is_that_of_fewer_fields_or_is_cut(end: int) -> None:
    try:
        check_outline(WHOLE[:end], max_rest_bytes=1000)
    except InvalidMessage:
        with pytest.raises(InvalidMessage):
            parse(service_pb2.ModelInferRequest, WHOLE[:end])
    else:
        parse(service_pb2.ModelInferRequest, WHOLE[:end])


def test_only_the_bytes_of_tensors_may_be_large() -> None:
    check_outline(raw("UINT8", (1,), bytes(1000)).SerializeToString(), max_rest_bytes=100)
    with pytest.raises(BodyTooLarge, match="beside raw_input_contents, over the limit of 100"):
        check_outline(typed(bytes_contents=[bytes(1000)]).SerializeToString(), max_rest_bytes=100)


def test_a_message_of_nothing_but_empty_messages_is_not_parsed() -> None:
    """Each takes two bytes on the wire, and a hundred in memory."""
    many = b"\x2a\x00" * MAX_FIELDS
    check_outline(many, max_rest_bytes=1 << 20)
    with pytest.raises(InvalidMessage, match="fields"):
        check_outline(many + b"\x2a\x00", max_rest_bytes=1 << 20)


@pytest.mark.parametrize("data", [b"\x0b\x0c", b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x80" * 11])
def test_what_is_no_outline_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        check_outline(data, max_rest_bytes=100)


# How long all others wait for one message

MOST_BYTES = 16 << 20
MOST_SECONDS = 0.2  # a third of this here; without the limits, a second


def with_many_parameters(count: int) -> Any:
    message = typed(bytes_contents=[b"a", b"b"])
    for index in range(count):
        message.inputs[0].parameters[f"{index:06}"].bool_param = True
    return message


# What is as large as it may be, and a part more than that.
LARGEST: dict[str, Callable[[int], Any]] = {
    "FP32": lambda more: typed("FP32", (MAX_VALUES + more,), fp32_contents=[0.5] * (MAX_VALUES + more)),
    "UINT8": lambda more: typed("UINT8", (MAX_VALUES + more,), uint_contents=[200] * (MAX_VALUES + more)),
    "BYTES": lambda more: typed(
        shape=(MAX_BYTES_ELEMENTS + more,), bytes_contents=[bytes(200)] * (MAX_BYTES_ELEMENTS + more)
    ),
    "parameters": lambda more: with_many_parameters((MAX_SMALL_BYTES - 100) // 14 + more * 10),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_message_is_understood_soon(name: str) -> None:
    data = LARGEST[name](0).SerializeToString()
    assert quickest(lambda: understood(data, max_rest_bytes=MOST_BYTES), bound=MOST_SECONDS) < (MOST_SECONDS)
    with pytest.raises((BodyTooLarge, InvalidTensor), match="more than"):
        understood(LARGEST[name](1).SerializeToString(), max_rest_bytes=MOST_BYTES)


def field(number: int, data: bytes) -> bytes:
    """Of bytes, after their length."""
    size, length = len(data), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


ROOM = MOST_BYTES - 100
BOMBS = {
    "parameters": field(5, field(4, b"\x0a\x06abcdef") * (ROOM // 10)),
    "a long name": field(5, b"") + field(4, field(1, b"a" * ROOM)),
    "shapes": field(5, field(3, b"\x01" * ROOM)),
    "shapes that are not packed": field(5, b"\x18\x01" * (ROOM // 2)),
    "empty contents": field(5, field(5, b"") * (ROOM // 2)),
    "empty packed numbers": field(5, field(5, field(4, b"") * (ROOM // 2))),
    "unsigned numbers": field(5, field(5, field(4, b"\x01" * ROOM))),
    "numbers of ten bytes": field(5, field(5, field(3, (b"\xff" * 9 + b"\x01") * (ROOM // 10)))),
    "numbers that are not packed": field(5, field(5, b"\x20\x01" * (ROOM // 2))),
    "floats that are not packed": field(5, field(5, b"\x35\x00\x00\x80\x3f" * (ROOM // 5))),
    "doubles": field(5, field(5, field(7, bytes(ROOM)))),
    "floats in two contents": field(5, field(5, field(6, bytes(1 << 21))) * 2),
    "floats of two inputs": field(5, field(5, field(6, bytes(1 << 21)))) * 2,
    "bytes": field(5, field(5, field(8, b"") * (ROOM // 2))),
    "bytes of two inputs": field(5, field(5, field(8, b"ab") * (1 << 15) + field(8, b""))) * 2,
    "bytes whose field has a long number": field(5, field(5, b"\xc2\x00\x00" * (ROOM // 3))),
    "outputs": field(6, field(2, b"\x0a\x06abcdef") * (ROOM // 10)),
    "an unknown field": field(5, field(5, field(9, bytes(MAX_SMALL_BYTES)))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_many_small_parts_are_not_parsed(name: str) -> None:
    def refuse() -> None:
        with pytest.raises((BodyTooLarge, InvalidTensor), match="more than"):
            check_outline(BOMBS[name], max_rest_bytes=MOST_BYTES)

    assert quickest(refuse, bound=MOST_SECONDS) < MOST_SECONDS


def test_elements_of_bytes_are_counted_over_all_inputs() -> None:
    half = MAX_BYTES_ELEMENTS // 2
    tensor = TensorMessage(name="x", datatype="BYTES", shape=[half])
    message = service_pb2.ModelInferRequest(inputs=[tensor] * 2, raw_input_contents=[bytes(4 * half)] * 2)
    assert [len(each.elements) for each in through_the_wire(message).inputs] == [half, half]
    message.inputs.append(TensorMessage(name="y", datatype="BYTES", shape=[1]))
    message.raw_input_contents.append(bytes(4))
    with pytest.raises(InvalidTensor, match="'y' has more than"):
        through_the_wire(message)


def test_ordinary_contents_are_taken() -> None:
    pixels = 3 * 384 * 384
    for message in (
        typed("FP32", (1, 3, 384, 384), fp32_contents=[0.5] * pixels),
        typed("UINT8", (1, 384, 384, 3), uint_contents=[255] * pixels),
        typed(bytes_contents=[bytes(7 << 20)] * 2),  # files
        with_many_parameters(100),
    ):
        understood(message.SerializeToString(), max_rest_bytes=MOST_BYTES)


# Errors


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_that_says_whose_fault_it_is(kind: type[GraftworkError]) -> None:
    status = status_code(kind.status).name
    assert (status in ("INTERNAL", "UNKNOWN")) is (kind.status == 500)
    assert status != "OK"
    if kind.status in (400, 413, 414, 415, 422):
        assert status == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (409, "FAILED_PRECONDITION"),
        (429, "RESOURCE_EXHAUSTED"),
        (499, "CANCELLED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (418, "INVALID_ARGUMENT"),
        (599, "INTERNAL"),
    ],
)
def test_statuses(status: int, name: str) -> None:
    assert status_code(status).name == name
