from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api.tei.errors import PATHS
from service.messages import Batch
from tests.server_process import Reply
from tests.service.echo_engine import SCALE
from tests.service.site import Play, Site


async def ask(site: Site, path: str, document: Any, **headers: str) -> Reply:
    return await site.request("POST", path, json.dumps(document).encode(), headers=headers)


def number(vector: list[float]) -> int:
    """Of the text that an embedding is of."""
    return round(vector[0] / vector[1] * SCALE)


def test_embeddings_are_those_of_their_texts(play: Play) -> None:
    async def story(site: Site) -> None:
        for inputs, numbers in [("17", [17]), (["1", "2"], [1, 2]), ([3], [3]), ([[4], [5, 0]], [4, 5])]:
            reply = await ask(site, "/embed", {"inputs": inputs, "prompt_name": None, "truncation_direction": "Right"})
            assert reply.status == 200
            assert reply.headers["content-type"] == "application/json"
            assert [number(vector) for vector in reply.json()] == numbers
        raw = (await ask(site, "/embed", {"inputs": "500", "normalize": False})).json()
        assert raw == [[0.5, 1.0]]
        many = [str(n % 50) for n in range(300)]
        assert [number(vector) for vector in (await ask(site, "/embed", {"inputs": many})).json()] == list(
            map(int, many)
        )
        assert await site.outcomes() == {("letters", "ok", "1"): 6}

    play(story)


def test_the_root_answers_by_the_form_of_the_body_and_by_the_model(play: Play) -> None:
    async def story(site: Site) -> None:
        for document, path in [
            ({"inputs": ["1", "2"]}, "/embed"),
            ({"query": "1", "texts": ["1", "900"]}, "/rerank"),
            ({"inputs": {"source_sentence": "1", "sentences": ["1", "900"]}, "parameters": {}}, "/similarity"),
        ]:
            found = await ask(site, "/", document)
            assert (found.status, found.body) == (200, (await ask(site, path, document)).body)

    async def of_a_classifier(site: Site) -> None:
        found = await ask(site, "/", {"inputs": "1"})
        assert found.body == (await ask(site, "/predict", {"inputs": "1"})).body
        assert {each["label"] for each in found.json()} == {"glad", "sad"}

    play(story)
    play(of_a_classifier, tei_model="moods:1")


@pytest.mark.parametrize("named", ["letters", "letters:1", None])
def test_what_a_model_embeds_is_what_its_backbone_does(play: Play, named: str | None) -> None:
    async def story(site: Site) -> None:
        assert [number(vector) for vector in (await ask(site, "/embed", {"inputs": "7"})).json()] == [7]

    play(story, tei_model=named)


@pytest.mark.parametrize(
    ("path", "document", "status", "error_type", "code"),
    [
        ("/embed", {"inputs": []}, 400, "Empty", "empty_text"),
        ("/embed", {"inputs": ["1", "blank"]}, 400, "Empty", "empty_text"),
        ("/embed", {"inputs": ["1"] * 2049}, 413, "Validation", "too_many_instances"),
        ("/embed", {"inputs": None}, 422, "Validation", "invalid_instances"),
        ("/embed", {}, 422, "Validation", "invalid_document"),
        ("/embed", [], 422, "Validation", "invalid_document"),
        ("/embed", {"inputs": "1", "prompt_name": "query"}, 422, "Validation", "invalid_parameter"),
        ("/embed", {"inputs": "1", "truncation_direction": "left"}, 422, "Validation", "invalid_parameter"),
        ("/embed", {"inputs": "1", "dimensions": 17}, 422, "Validation", "invalid_parameter"),
        ("/embed", {"inputs": "1", "normalize": 1}, 422, "Validation", "invalid_parameter"),
        ("/predict", {"inputs": "1"}, 424, "Backend", "unsuitable_model"),
        ("/rerank", {"query": "1", "texts": []}, 400, "Empty", "empty_text"),
        ("/similarity", {"inputs": "1"}, 422, "Validation", "invalid_document"),
        ("/", {"inputs": 1}, 422, "Validation", "invalid_instances"),
        ("/embed", {"inputs": "?"}, 500, "Backend", "internal"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_have_the_shape_of_tei(
    play: Play, path: str, document: Any, status: int, error_type: str, code: str
) -> None:
    async def story(site: Site) -> None:
        reply = await ask(site, path, document)
        found = reply.json()
        assert (reply.status, found["error_type"], found["code"]) == (status, error_type, code)
        assert set(found) == {"error", "error_type", "code"}
        outcome = "failed" if status == 500 else "client_error"
        assert await site.outcomes() == {("letters", outcome, "1"): 1}

    play(story)


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"{", 400), (b"\xff", 400), (b"{}" + b" " * 99, 413)])
def test_bodies_have_limits_and_are_json(play: Play, body: bytes, status: int) -> None:
    async def story(site: Site) -> None:
        for path in PATHS:
            assert (await site.request("POST", path, body)).status == status

    play(story, max_json_bytes=64)


def test_nobody_waits_longer_than_its_deadline(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        reply = await ask(site, "/embed", {"inputs": "1"}, **{"x-request-timeout": "0.05"})
        assert (reply.status, reply.json()["error_type"]) == (504, "Backend")
        assert await site.outcomes() == {("letters", "timeout", "1"): 1}

    play(story)


def test_a_full_server_says_so_as_tei_does_and_counts_as_ever(play: Play) -> None:
    async def story(site: Site) -> None:
        site.application._admission.observe(
            [Batch(backbone="b", rows=1, seconds=1e6)]
        )  # what is before it takes for ever
        site.engine.gate.clear()
        first = asyncio.create_task(ask(site, "/embed", {"inputs": "1"}))
        await site.until("graftwork_in_flight_rows", value=1)
        refused = await ask(site, "/embed", {"inputs": "2"})
        assert (refused.status, refused.json()["error_type"], refused.json()["code"]) == (
            429,
            "Overloaded",
            "overloaded",
        )
        assert int(refused.headers["retry-after"]) >= 1
        site.engine.gate.set()
        assert (await first).status == 200
        assert await site.outcomes() == {("letters", "ok", "1"): 1, ("letters", "shed", "1"): 1}

    play(story, max_rows_in_flight=1)


def test_a_server_that_is_not_ready_is_unhealthy(play: Play) -> None:
    async def story(site: Site) -> None:
        for reply in [await ask(site, "/embed", {"inputs": "1"}), await site.get("/info"), await site.get("/health")]:
            assert (reply.status, reply.json()["error_type"]) == (503, "Unhealthy")
        await site.start_worker()
        for reply in [await ask(site, "/embed", {"inputs": "1"}), await site.get("/info"), await site.get("/health")]:
            assert reply.status == 200

    play(story, workers=0)


def test_info_says_who_answers_and_what_is_taken(play: Play) -> None:
    async def of_a_backbone(site: Site) -> None:
        found = (await site.get("/info")).json()
        listed = (await site.get("/v1/models")).json()["data"]
        (backbone,) = (card["id"] for card in listed if card["task"] == "embedding")
        assert found["model_id"] == found["served_model_name"] == backbone
        assert found["model_type"] == {"embedding": {"pooling": "mean"}}
        assert (found["model_dtype"], len(found["model_sha"])) == ("float32", 64)
        assert (found["max_input_length"], found["max_batch_requests"], found["max_batch_tokens"]) == (64, 8, 512)
        assert (found["max_concurrent_requests"], found["max_client_batch_size"]) == (32, 2048)
        assert found["version"] == "0"

    async def of_a_classifier(site: Site) -> None:
        found = (await site.get("/info")).json()
        assert (found["model_id"], found["served_model_name"]) == ("moods:1", "moods:1")
        assert found["model_type"] == {
            "classifier": {"id2label": {"0": "glad", "1": "sad"}, "label2id": {"glad": 0, "sad": 1}}
        }

    play(of_a_backbone, max_batch_rows=8)
    play(of_a_classifier, tei_model="moods")


@pytest.mark.parametrize("named", ["nobody", "letters:7", "letters@nowhere", "owner/name"])
def test_a_model_that_is_not_there_is_no_fault_of_the_request(play: Play, named: str) -> None:
    async def story(site: Site) -> None:
        for reply in [await ask(site, "/embed", {"inputs": "1"}), await site.get("/info")]:
            assert (reply.status, reply.json()["error_type"]) == (424, "Backend")

    play(story, tei_model=named)


# Whatever is sent

texts = st.sampled_from(["1", "2 3", "blank", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 40) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["source_sentence", "sentences", "top_k", "function_to_apply"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
members = ["inputs", "query", "texts", "truncate", "normalize", "dimensions", "raw_scores", "return_text", "parameters"]
documents = values | st.dictionaries(st.sampled_from(members), values, min_size=1, max_size=4)


@pytest.mark.parametrize("named", [None, "moods"])
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=st.lists(documents, min_size=30, max_size=60))
def test_whatever_is_sent_is_answered_in_the_terms_of_tei(play: Play, named: str | None, bodies: list[Any]) -> None:
    async def story(site: Site) -> None:
        for body in bodies:
            for path in PATHS:
                reply = await ask(site, path, body)
                assert reply.status in (200, 400, 413, 422, 424), (path, body, reply.body)
                if reply.status != 200:
                    assert set(reply.json()) == {"error", "error_type", "code"}

    play(story, tei_model=named)
