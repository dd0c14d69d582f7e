"""What is remembered of requests and answers must not show: the next one may differ by little."""

from __future__ import annotations

import orjson
import pytest

from models.errors import InvalidValue
from models.signature import EMBEDDING, LABEL, PROBABILITIES, Signature, TensorSpec
from service.api.oip.infer import plan
from service.api.oip.infer_json import read_request
from service.api.oip.tensor import pack_elements
from tests.server_process import Reply
from tests.service.api.oip.test_infer_http import head, infer, outputs, probability
from tests.service.site import Play, Site


def test_the_same_json_before_other_bytes_is_another_request() -> None:
    first, second = pack_elements([b"123"]), pack_elements([b"456"])
    start = head(b"123")
    for _ in range(2):
        for rest, text in ((first, b"123"), (second, b"456")):
            (tensor,) = read_request(start + rest, len(start)).inputs
            assert [bytes(element) for element in tensor.elements] == [text]


def test_a_json_that_was_understood_once_is_still_held_against_its_bytes(play: Play) -> None:
    async def story(site: Site) -> None:
        start, rest = head(b"500"), pack_elements([b"500"])
        for body, status in ((rest, 200), (rest + b"x", 400), (rest[:-1], 400), (rest, 200)):
            assert (await infer(site, start, body, size=len(start))).status == status

    play(story)


def test_answers_in_bytes_differ_by_id_rows_and_model(play: Play) -> None:
    async def ask(site: Site, path: str, *texts: bytes, request_id: str = "") -> Reply:
        start = head(*texts, id=request_id, parameters={"binary_data_output": True})
        return await infer(site, start, pack_elements(texts), path=path, size=len(start))

    async def story(site: Site) -> None:
        for request_id in ("a", "b", ""):
            for texts in ([b"500"], [b"500", b"900"]):
                reply = await ask(site, "letters", *texts, request_id=request_id)
                document = orjson.loads(reply.body[: int(reply.headers["inference-header-content-length"])])
                assert document.get("id", "") == request_id
                assert {each["shape"][0] for each in document["outputs"]} == {len(texts)}
                found = outputs(reply)["probabilities"][0::2]
                assert found == pytest.approx([probability(int(text)) for text in texts])
        other = await ask(site, "moods", b"500")
        assert (
            orjson.loads(other.body[: int(other.headers["inference-header-content-length"])])["model_name"] == "moods"
        )
        assert outputs(other)["probabilities"][0] == pytest.approx(probability(-1500))

    play(story)


def test_versions_with_other_outputs_do_not_get_each_others() -> None:
    text = TensorSpec(name="text", datatype="BYTES")
    request = read_request(head(b"1") + pack_elements([b"1"]), len(head(b"1")))
    for names in ((PROBABILITIES,), (LABEL, EMBEDDING)):
        specs = tuple(TensorSpec(name=name, datatype="BYTES") for name in names)
        reads = Signature(inputs=(text,), outputs=specs)
        assert plan(request, reads, max_rows=1, max_image_bytes=1).wish.outputs == list(names)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"[]", "the body: this must be an object"),
        (b'{"inputs": [{}]}', "/inputs/0/name: this is missing"),
        (b'{"inputs": [{"name": 1}]}', "/inputs/0/name: this must be a string"),
        (b'{"inputs": {}}', "/inputs: this must be a list"),
        (b'{"inputs": [], "outputs": [{"name": "a"}, 1]}', "/outputs/1: this must be an object"),
        (b'{"inputs": [], "parameters": []}', "/parameters: this must be an object"),
    ],
)
def test_a_wrong_form_is_told_with_its_place(document: bytes, message: str) -> None:
    with pytest.raises(InvalidValue) as found:
        read_request(document, None)
    assert found.value.message == message
