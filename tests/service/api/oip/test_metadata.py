"""What Triton's own messages make of the metadata and the configuration."""

from __future__ import annotations

import json

import pytest
from google.protobuf.json_format import ParseDict
from tritonclient.grpc import service_pb2

from service.api.oip.metadata import LEVELS
from service.worker.fair_queue import STEPS, level_of
from tests.service.site import Play, Site


@pytest.mark.parametrize("model", ["letters", "moods"])
def test_metadata_is_tritons_message(play: Play, model: str) -> None:
    async def story(site: Site) -> None:
        for path in (f"/v2/models/{model}", f"/v2/models/{model}/versions/1"):
            found = ParseDict(json.loads((await site.get(path)).body), service_pb2.ModelMetadataResponse())
            assert (found.name, list(found.versions), found.platform) == (model, ["1"], "graftwork")
            assert [(each.name, each.datatype, list(each.shape)) for each in found.inputs] == [("text", "BYTES", [-1])]
            assert [each.name for each in found.outputs] == ["probabilities", "logits", "label", "embedding"]

    play(story)


def test_a_configuration_is_tritons_message(play: Play) -> None:
    async def story(site: Site) -> None:
        document = json.loads((await site.get("/v2/models/letters/config")).body)
        found = ParseDict({"config": document}, service_pb2.ModelConfigResponse()).config
        assert (found.name, found.backend, found.max_batch_size) == ("letters", "graftwork", 64)
        assert [(each.name, each.data_type, list(each.dims)) for each in found.input] == [("text", 13, [1])]
        assert next((each.name, list(each.dims)) for each in found.output) == ("probabilities", [4])
        assert found.version_policy.WhichOneof("policy_choice") is not None

    play(story)


def test_a_server_says_what_it_is(play: Play) -> None:
    async def story(site: Site) -> None:
        found = ParseDict(json.loads((await site.get("/v2")).body), service_pb2.ServerMetadataResponse())
        assert (found.name, found.version) == ("graftwork", "0")
        assert "binary_tensor_data" in found.extensions

    play(story)


def test_the_levels_of_priority_are_those_that_workers_have() -> None:
    assert len(STEPS) == LEVELS
    assert sorted({level_of(priority) for priority in range(10)}) == sorted(STEPS)
    assert level_of(0) == level_of(2)  # the default, as the configuration says
