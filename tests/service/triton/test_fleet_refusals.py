"""What becomes of a backbone that a server of a fleet has no more, or that fails there."""

from __future__ import annotations

import time

import pytest

from models.errors import EngineUnavailable, VersionCorrupt
from tests.processes import wait_for
from tests.service.triton.fake_triton import CONTRACT, SAMPLE, FakeTriton, Held, fake_fleet, tensors


def test_whoever_loads_is_told_that_no_server_has_the_backbone_any_more() -> None:
    with fake_fleet() as (fleet, (server,)):
        model = fleet.open(CONTRACT, SAMPLE)
        server.stop()
        wait_for(lambda: not fleet.wait_until_up(0), 20)
        with pytest.raises(EngineUnavailable):
            fleet.infer(model, SAMPLE, None)  # it may well have it
        server.held = None
        server.start()
        assert fleet.wait_until_up(20)
        with pytest.raises(EngineUnavailable, match="there is no Triton model"):
            fleet.infer(model, tensors(9), time.monotonic() + 30)
        with pytest.raises(VersionCorrupt, match="there is no Triton model"):
            fleet.infer(model, SAMPLE, None)


def test_a_server_whose_model_fails_gets_nothing_and_is_not_checked_with_each_batch() -> None:
    def prepare(servers: list[FakeTriton]) -> None:
        servers[0].held = Held(fails=True)

    with fake_fleet(2, prepare=prepare) as (fleet, _):
        model = fleet.open(CONTRACT, SAMPLE)
        fleet.take_report()
        for number in range(1, 7):
            assert fleet.infer(model, tensors(number), time.monotonic() + 30).tolist() == [[number, 3]]
        assert [each.requests for each in fleet.take_report()] == [0, 6]


def test_a_model_that_fails_everywhere_is_refused_with_what_the_server_says() -> None:
    def prepare(servers: list[FakeTriton]) -> None:
        servers[0].held = Held(fails=True)

    with (
        fake_fleet(prepare=prepare) as (fleet, _),
        pytest.raises(VersionCorrupt, match="fails on a row: the model failed; look at Triton's log"),
    ):
        fleet.open(CONTRACT, SAMPLE)
