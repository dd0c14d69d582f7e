"""What clients see while the servers that compute are down."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.batch import Batch
from models.errors import EngineUnavailable
from models.features import FeatureKind, Features
from service.messages import RemoteEngine
from tests.service.api.catalog_stage import Stage
from tests.service.api.catalog_stage import play as play_catalog
from tests.service.site import Play, Site

REASON = "none of 1 Triton servers is ready; try again"
UP, DOWN = RemoteEngine(url="a:8001", up=True), RemoteEngine(url="b:8001", up=False)


def is_down(batch: Batch, kind: FeatureKind) -> Features:
    raise EngineUnavailable(REASON)


OIP = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["17"]}]}


@pytest.mark.parametrize(
    ("path", "document", "where"),
    [
        ("/v1/models/letters:predict", {"instances": ["17", "18"]}, ("code",)),
        ("/v2/models/letters/infer", OIP, ("error",)),
        ("/v1/embeddings", {"model": "letters", "input": "17"}, ("error", "code")),
        ("/embed", {"inputs": "17"}, ("error",)),
    ],
)
def test_every_dialect_says_that_nobody_computes_and_when_to_ask_again(
    play: Play, path: str, document: Any, where: tuple[str, ...]
) -> None:
    async def story(site: Site) -> None:
        site.engine.features = is_down  # type: ignore[method-assign]
        reply = await site.request("POST", path, json.dumps(document).encode())
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        found = reply.json()
        for key in where:
            found = found[key]
        assert "engine_unavailable" in found or REASON in found
        ((labels, count),) = (await site.outcomes()).items()
        assert (labels[:2], count) == (("letters", "failed"), 1)
        del site.engine.features
        assert (await site.request("POST", path, json.dumps(document).encode())).status == 200

    play(story, tei_model="letters")


def test_a_server_is_ready_while_one_of_those_that_compute_for_it_is() -> None:
    async def story(stage: Stage) -> None:
        first, second = stage.workers
        await stage.refresh()
        first.settled = second.settled = True
        reasons = []
        for fleets in ([UP, DOWN], [DOWN, DOWN]), ([DOWN, DOWN], [DOWN, DOWN]), ([DOWN, UP], [UP, UP]), ([], []):
            first.fleet, second.fleet = fleets
            reasons.append(stage.catalog.not_ready_reason())
        assert reasons == [None, "none of 2 Triton servers is ready", None, None]

    play_catalog(story, workers=2)


def test_more_may_be_in_flight_where_several_servers_compute(play: Play) -> None:
    found = []

    async def story(site: Site) -> None:
        found.append((await site.get("/info")).json()["max_concurrent_requests"])

    play(story, tei_model="letters")
    play(story, tei_model="letters", engine="triton", triton_urls=("a:1", "b:1", "c:1"))
    assert found[1] == 3 * found[0]


def test_what_is_wrong_is_said_before_that_versions_wait_for_it() -> None:
    async def story(stage: Stage) -> None:
        (worker,) = stage.workers
        stage.shelf.publish("m", 1)
        await stage.refresh()
        worker.fleet = [DOWN]
        assert stage.catalog.not_ready_reason() == "none of 1 Triton servers is ready"
        worker.fleet = [UP]
        assert stage.catalog.not_ready_reason() == "models are being loaded: 0 of 1 versions are done"

    play_catalog(story, workers=1)
