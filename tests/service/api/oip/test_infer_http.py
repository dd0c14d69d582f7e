"""``POST /v2/models/{name}/infer``, straight to the application."""

from __future__ import annotations

import gzip
import json
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import pytest

from service.api.oip.tensor import pack_elements
from service.api.worker_connection import WorkerConnection
from service.messages import Predict
from tests.server_process import Reply
from tests.service.site import Play, Site

TEXTS = [b"500", b"1000"]


def head(*texts: bytes, outputs: list[Any] | None = None, **members: Any) -> bytes:
    """A request in JSON whose texts follow as bytes."""
    tensor = {
        "name": "text",
        "shape": [len(texts)],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(pack_elements(texts))},
    }
    document = {"inputs": [tensor], **({} if outputs is None else {"outputs": outputs}), **members}
    return json.dumps(document).encode()


def in_json(*texts: str, **members: Any) -> bytes:
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return json.dumps({"inputs": [tensor], **members}).encode()


async def infer(site: Site, *parts: bytes, path: str = "letters", size: int | None = None, **headers: str) -> Reply:
    if size is not None:
        headers["inference-header-content-length"] = str(size)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return await site.request("POST", f"/v2/models/{path}/infer", b"".join(parts), headers=headers)


def outputs(reply: Reply) -> dict[str, Any]:
    """The tensors of an answer, by name: flat lists of numbers, or of bytes."""
    size = reply.headers.get("inference-header-content-length")
    document = json.loads(reply.body if size is None else reply.body[: int(size)])
    rest = b"" if size is None else reply.body[int(size) :]
    found = {}
    for tensor in document["outputs"]:
        if "data" in tensor:
            found[tensor["name"]] = tensor["data"]
            continue
        length = tensor["parameters"]["binary_data_size"]
        raw, rest = rest[:length], rest[length:]
        found[tensor["name"]] = [raw] if tensor["datatype"] == "BYTES" else list(struct.unpack(f"<{length // 4}f", raw))
    assert rest == b""
    return found


def probability(number: int) -> float:
    return 1 / (1 + math.exp(-number / 1000))


def test_a_request_in_json_is_answered_in_json_with_all_outputs(play: Play) -> None:
    async def story(site: Site) -> None:
        reply = await infer(site, in_json("500", "-1000", id="a b"))
        assert reply.status == 200, reply.body
        assert reply.headers["content-type"] == "application/json"
        document = reply.json()
        assert {**document, "outputs": None} == {
            "model_name": "letters",
            "model_version": "1",
            "id": "a b",
            "outputs": None,
        }
        assert [(each["name"], each["datatype"], each["shape"][0]) for each in document["outputs"]] == [
            ("probabilities", "FP32", 2),
            ("logits", "FP32", 2),
            ("label", "BYTES", 2),
            ("embedding", "FP32", 2),
        ]
        found = outputs(reply)
        assert found["label"] == ["yes", "no"]
        assert found["logits"] == pytest.approx([0.5, 0, -1, 0])
        assert found["embedding"] == pytest.approx([0.5, 1, -1, 1])
        assert found["probabilities"][0::2] == pytest.approx([probability(500), probability(-1000)])

    play(story)


def test_tensors_may_be_bytes_both_ways(play: Play) -> None:
    async def story(site: Site) -> None:
        request = head(
            *TEXTS, outputs=[{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
        )
        reply = await infer(site, request, pack_elements(TEXTS), size=len(request))
        assert (reply.status, reply.headers["content-type"]) == (200, "application/octet-stream")
        found = outputs(reply)
        assert found["probabilities"][0::2] == pytest.approx([probability(500), probability(1000)])
        assert found["label"] == ["yes", "yes"]

    play(story)


def test_a_raw_request_is_its_one_input_and_gets_bytes(play: Play) -> None:
    async def story(site: Site) -> None:
        reply = await infer(site, b"500", size=0)
        assert reply.status == 200
        assert outputs(reply)["probabilities"][0] == pytest.approx(probability(500))
        assert (await infer(site, b"", size=0)).code == "empty_body"

    play(story)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_may_be_compressed_both_ways(play: Play, encoding: str) -> None:
    async def story(site: Site) -> None:
        texts = [b"%d" % number for number in range(1, 65)]
        request = head(*texts, parameters={"binary_data_output": True})
        body = request + pack_elements(texts)
        packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
        reply = await infer(site, packed, size=len(request), content_encoding=encoding, accept_encoding=encoding)
        assert reply.headers["content-encoding"] == encoding
        plain = zlib.decompress(reply.body, 47)
        whole = Reply(status=200, headers=reply.headers, body=plain)
        assert outputs(whole)["probabilities"][0::2] == pytest.approx([probability(n) for n in range(1, 65)])

    play(story)


def test_the_priority_of_a_request_goes_along_to_the_worker(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(site: Site) -> None:
        sent: list[int] = []
        predict = WorkerConnection.predict

        async def listen(connection: WorkerConnection, request: Predict, items: Sequence[bytes]) -> Any:
            sent.append(request.priority)
            return await predict(connection, request, items)

        monkeypatch.setattr(WorkerConnection, "predict", listen)
        for parameters in ({}, {"priority": 1}, {"priority": 3}):
            assert (await infer(site, in_json("500", parameters=parameters))).status == 200
        assert (await site.predict("letters", ["1"])).status == 200
        assert sent == [0, 1, 3, 0]

    play(story)
