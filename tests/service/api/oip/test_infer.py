"""Requests against what a model reads and gives, and its answer in tensors."""

from __future__ import annotations

import base64
from array import array

import pytest

from models.errors import BodyTooLarge, InvalidBase64, InvalidParameter, InvalidTensor
from models.signature import Signature, TensorSpec
from service.api.oip.infer import InferRequest, OutputTensor, Plan, RequestedOutput, Selection, plan
from service.api.oip.tensor import Tensor, iterate_elements
from service.api.worker_connection import Reply
from service.messages import Timings, unpack_pair

LABELS = ("cat", "dog", "cow")
PROBABILITIES = TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 3), labels=LABELS)
LABEL = TensorSpec(name="label", datatype="BYTES")
TEXT, PAIR = (TensorSpec(name=name, datatype="BYTES") for name in ("text", "text_pair"))
IMAGE = TensorSpec(name="image", datatype="BYTES")
PIXELS = TensorSpec(name="pixel_values", datatype="FP32", shape=(-1, 3, 2, 2), also="UINT8")
TEXTS = Signature(inputs=(TEXT,), outputs=(PROBABILITIES, LABEL))
PAIRS = Signature(inputs=(TEXT, PAIR), outputs=(PROBABILITIES,))
IMAGES = Signature(inputs=(IMAGE, PIXELS), outputs=(PROBABILITIES,), alternatives=True)


def elements(name: str, *items: bytes, is_text: bool = False) -> Tensor:
    return Tensor(name=name, datatype="BYTES", shape=(len(items),), elements=items, is_text=is_text)


def planned(signature: Signature, *inputs: Tensor, outputs: tuple[RequestedOutput, ...] = ()) -> Plan:
    request = InferRequest(inputs=inputs, outputs=outputs)
    return plan(request, signature, max_rows=4, max_image_bytes=8)


def answered(outputs: tuple[RequestedOutput, ...], *raws: bytes) -> list[OutputTensor]:
    reply = Reply(payload=b"".join(raws), timings=Timings(), sizes=[len(raw) for raw in raws])
    return list(planned(TEXTS, elements("text", b"a", b"b"), outputs=outputs).tensors(reply))


def test_pairs_go_along_together() -> None:
    made = planned(PAIRS, elements("text_pair", b"c", b"d"), elements("text", b"a", b"b"))
    assert list(map(unpack_pair, made.items)) == [(b"a", b"c"), (b"b", b"d")]
    with pytest.raises(InvalidTensor, match="there are 1 texts and 2 to be paired"):
        planned(PAIRS, elements("text", b"a"), elements("text_pair", b"c", b"d"))
    with pytest.raises(InvalidTensor, match="'text_pair' is missing"):
        planned(PAIRS, elements("text", b"a"))


@pytest.mark.parametrize(("datatype", "size"), [("FP32", 48), ("UINT8", 12)])
def test_pixels_are_cut_into_images(datatype: str, size: int) -> None:
    raw = bytes(range(2 * size))
    for data in (raw, memoryview(raw)):
        made = planned(IMAGES, Tensor(name="pixel_values", datatype=datatype, shape=(2, 3, 2, 2), raw=data))
        assert (made.wish.form, made.items) == (datatype, [raw[:size], raw[size:]])


def test_images_in_json_are_in_base64() -> None:
    text = base64.b64encode(b"image")
    assert planned(IMAGES, elements("image", text, is_text=True)).items == [b"image"]
    assert planned(IMAGES, elements("image", text)).items == (text,)
    with pytest.raises(InvalidBase64, match="image 1 "):
        planned(IMAGES, elements("image", text, b"?", is_text=True))


def test_no_file_is_larger_than_an_image_may_be() -> None:
    assert len(planned(IMAGES, elements("image", b"12345678")).items) == 1
    with pytest.raises(BodyTooLarge, match="image 1 has 9 bytes, over the limit of 8"):
        planned(IMAGES, elements("image", b"1", b"123456789"))
    planned(TEXTS, elements("text", b"123456789"))  # whose lengths others look at


def test_outputs_come_as_they_were_asked_for() -> None:
    values = array("f", [0.25, 0.5, 0.25, 0.1, 0.2, 0.7]).tobytes()
    label, found = answered((RequestedOutput(name="label"), RequestedOutput(name="probabilities")), b"xy", values)
    assert (label.name, label.datatype, label.shape, label.raw) == ("label", "BYTES", (2,), b"xy")
    assert (found.name, found.datatype, found.shape, found.raw) == ("probabilities", "FP32", (2, 3), values)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_classes_are_the_highest_values_and_of_equals_the_first(count: int) -> None:
    values = array("f", [0.25, 0.5, 0.25, 0.1, 0.2, 0.7]).tobytes()
    (found,) = answered((RequestedOutput(name="probabilities", classes=count),), values)
    first = [b"0.500000:1:dog", b"0.250000:0:cat", b"0.250000:2:cow"][:count]
    second = [b"0.700000:2:cow", b"0.200000:1:dog", b"0.100000:0:cat"][:count]
    assert (found.datatype, found.shape) == ("BYTES", (2, min(count, 3)))
    assert list(iterate_elements(found.raw)) == [*first, *second]


def test_only_what_has_classes_can_be_classified() -> None:
    with pytest.raises(InvalidParameter, match="'label' has no classes"):
        planned(TEXTS, elements("text", b"a"), outputs=(RequestedOutput(name="label", classes=1),))


def test_classes_of_many_labels_take_a_moment() -> None:
    from tests.stopwatch import quickest

    labels = [f"label {number}" for number in range(10_000)]
    spec = TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 10_000), labels=labels)
    made = Plan(
        items=[b""] * 4,
        wish=planned(TEXTS, elements("text", b"a"), outputs=(RequestedOutput(name="probabilities"),)).wish,
        selection=Selection(
            outputs=[(RequestedOutput(name="probabilities", classes=5), spec)], names=["probabilities"]
        ),
    )
    raw = array("f", [number * 7919 % 10_000 / 1e4 for number in range(40_000)]).tobytes()
    reply = Reply(payload=raw, timings=Timings(), sizes=[len(raw)])
    assert quickest(lambda: made.tensors(reply), bound=0.05) < 0.05
