"""Tensors as bytes and as JSON, both ways; whatever is sent, only our errors come of it."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.errors import InvalidTensor, InvalidValue, NonFinite
from service.api.oip.infer_json import json_size, read_request
from service.api.oip.tensor import (
    MAX_ELEMENTS,
    SIZES,
    check_datatype,
    check_shape,
    from_json,
    from_raw,
    iterate_elements,
    pack_elements,
    to_json,
)
from tests.service.api.oip.infer_bodies import refusal

FP32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nested(values: list[Any], shape: list[int]) -> list[Any]:
    for size in reversed(shape[1:]):
        values = [values[start : start + size] for start in range(0, len(values), size)]
    return values


@given(shape=SHAPES, data=st.data())
def test_numbers_survive(shape: list[int], data: st.DataObject) -> None:
    count = math.prod(shape)
    values = data.draw(st.lists(FP32, min_size=count, max_size=count))
    for sent in (values, nested(values, shape)):
        tensor = from_json("a", "FP32", tuple(shape), sent, "/data")
        assert to_json("FP32", bytes(tensor.raw)) == values
        assert from_raw("a", "FP32", tuple(shape), tensor.raw).raw == tensor.raw


@given(shape=SHAPES, data=st.data())
def test_levels_survive(shape: list[int], data: st.DataObject) -> None:
    count = math.prod(shape)
    values = data.draw(st.lists(st.integers(0, 255), min_size=count, max_size=count))
    assert from_json("a", "UINT8", tuple(shape), nested(values, shape), "/data").raw == bytes(values)


@given(texts=st.lists(st.text(), min_size=1))
def test_texts_survive(texts: list[str]) -> None:
    shape = (len(texts),)
    tensor = from_json("a", "BYTES", shape, texts, "/data")
    raw = pack_elements(tensor.elements)
    assert to_json("BYTES", raw) == texts
    assert from_raw("a", "BYTES", shape, raw).elements == tensor.elements


@given(elements=st.lists(st.binary(), min_size=1), is_view=st.booleans())
def test_elements_survive(elements: list[bytes], is_view: bool) -> None:
    raw = pack_elements(elements)
    tensor = from_raw("a", "BYTES", (len(elements),), memoryview(raw) if is_view else raw)
    assert tensor.elements == elements == list(iterate_elements(raw))


def test_truth_in_json() -> None:
    assert to_json("BOOL", b"\0\1\2") == [False, True, True]


@given(st.binary(), st.integers(1, 10))
@example(struct.pack("<I", 0xFFFFFFFF), 1)
def test_any_bytes_are_elements_or_refused(raw: bytes, count: int) -> None:
    try:
        elements = from_raw("a", "BYTES", (count,), raw).elements
    except InvalidTensor:
        return
    assert pack_elements(elements) == raw
    assert len(elements) == count


@given(JSON | SHAPES | st.lists(st.integers()))
def test_anything_is_a_shape_or_refused(value: Any) -> None:
    try:
        shape = check_shape("a", value)
    except InvalidTensor:
        return
    assert list(shape) == value
    assert 0 < math.prod(shape) <= MAX_ELEMENTS


@given(JSON)
def test_anything_is_a_datatype_or_refused(value: Any) -> None:
    try:
        assert check_datatype("a", value) in SIZES
    except InvalidTensor:
        assert value not in list(SIZES)


@given(data=JSON | st.lists(JSON), datatype=st.sampled_from(list(SIZES)), shape=SHAPES)
def test_any_data_is_read_or_refused(data: Any, datatype: str, shape: list[int]) -> None:
    try:
        tensor = from_json("a", datatype, tuple(shape), data, "/data")
    except (InvalidTensor, InvalidValue, NonFinite):
        return
    assert tensor.elements or tensor.raw


@given(body=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(), size=st.none() | st.integers(0, 50))
@example(b'{"inputs": [{"name": "a", "shape": [1], "datatype": "UINT8", "data": [1]}]}', None)
def test_any_body_is_read_or_refused(body: bytes, size: int | None) -> None:
    error = refusal(lambda: read_request(body, size))
    assert error is None or error.status in (400, 413, 422)


MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text() | JSON,
        "shape": SHAPES | JSON,
        "datatype": st.sampled_from(list(SIZES)) | JSON,
        "data": st.lists(FP32) | JSON,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "shared_memory_region"]), JSON) | JSON,
    },
)


@given(
    document=st.fixed_dictionaries(
        {"inputs": st.lists(MEMBERS | JSON) | JSON},
        optional={"id": JSON, "outputs": st.lists(MEMBERS) | JSON, "parameters": JSON},
    ),
    rest=st.binary(),
)
def test_any_request_is_read_or_refused(document: Any, rest: bytes) -> None:
    head = json.dumps(document).encode()
    error = refusal(lambda: read_request(head + rest, len(head)))
    if error is not None:
        assert error.status in (400, 413, 422, 501)
        assert len(error.message) < 1000


@given(header=st.none() | st.text() | st.integers().map(str), size=st.integers(0, 1000))
@example(header="\u00b2", size=9)
@example(header="\u0661", size=9)
def test_any_header_is_a_length_or_refused(header: str | None, size: int) -> None:
    if (error := refusal(lambda: json_size(header, size))) is not None:
        assert error.code == "bad_request"
        return
    found = json_size(header, size)
    assert (found is None) == (header is None)
    assert 0 <= (found or 0) <= size


@pytest.mark.parametrize(
    ("value", "is_right"),
    [(3.4028234663852886e38, True), (3.4028235677973366e38, False), (-3.5e38, False), (1e-60, True), (1 << 64, True)],
)
def test_numbers_at_the_edge_of_fp32(value: float, is_right: bool) -> None:
    if is_right:
        (found,) = to_json("FP32", bytes(from_json("a", "FP32", (1,), [value], "").raw))
        assert math.isfinite(found)
    else:
        with pytest.raises(NonFinite):
            from_json("a", "FP32", (1,), [value], "")


def test_a_value_is_pointed_at_as_it_is_nested() -> None:
    with pytest.raises(InvalidValue, match=r"^/data/1/2: "):
        from_json("a", "FP32", (2, 3), [[1, 2, 3], [4, 5, None]], "/data")
    with pytest.raises(InvalidValue, match=r"^/data/5: "):
        from_json("a", "UINT8", (2, 3), [1, 2, 3, 4, 5, 256], "/data")
