from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from models.backbone_store import StoredBackbone
from models.batch import TextRow, collate
from models.deadline import until
from models.errors import DeadlineExceeded, VersionCorrupt
from models.features import FeatureKind
from models.precision import Precision
from service.triton.engine import TritonEngines
from tests.service.triton.fake_triton import DIGEST, TEXTS, FakeTriton, Held, fake_fleet

STORED = cast(StoredBackbone, SimpleNamespace(digest=DIGEST, config=TEXTS))
ROWS = [TextRow(ids=[7, 1, 1], segments=[0] * 3), TextRow(ids=[5], segments=[0])]


@contextmanager
def engines(held: Held | None = None, *, count: int = 1) -> Iterator[tuple[TritonEngines, Sequence[FakeTriton]]]:
    def prepare(servers: Sequence[FakeTriton]) -> None:
        for server in servers:
            server.held = held

    with fake_fleet(count, prepare=prepare) as (fleet, servers):
        yield TritonEngines(fleet), servers


def test_features_are_those_of_the_rows_in_their_order() -> None:
    with engines(Held()) as (source, _):
        assert source.precisions(STORED) == (Precision.FP32,)
        engine = source.build(STORED, Precision.FP32)
        engine.warm_up()
        features = engine.features(collate(ROWS), FeatureKind.POOLED)
        assert features.values.tolist() == [[7, 3], [5, 1]]
        assert features.mask_BT is None
        features.values.add_(1)  # they are the caller's own
        assert engine.identity == "triton/0123456789abcdef/fp32"
        assert "a Triton server" in source.reason(STORED, Precision.FP32)
        assert source.exact(STORED) is None


def test_an_engine_gives_the_kind_of_features_that_it_was_made_for() -> None:
    with engines(Held()) as (source, _):
        engine = source.build(STORED, Precision.FP32)
        with pytest.raises(ValueError, match="pooled, not tokens"):
            engine.features(collate(ROWS), FeatureKind.TOKENS)


@pytest.mark.parametrize(("instances", "count", "streams"), [(1, 1, 2), (2, 1, 4), (2, 2, 8), (8, 2, 16)])
def test_an_engine_is_asked_for_two_batches_for_each_instance_of_its_model_up_to_a_limit(
    instances: int, count: int, streams: int
) -> None:
    with engines(Held(instances=instances), count=count) as (source, _):
        assert source.build(STORED, Precision.FP32).streams == streams


def test_an_engine_waits_until_its_deadline_and_no_longer() -> None:
    with engines(Held()) as (source, (server,)):
        engine = source.build(STORED, Precision.FP32)
        server.gate.clear()
        started = time.monotonic()
        with until(started + 0.2), pytest.raises(DeadlineExceeded):
            engine.features(collate(ROWS), FeatureKind.POOLED)
        assert time.monotonic() - started < 5


def test_there_is_no_engine_where_the_fleet_has_another_backbone() -> None:
    with engines(Held(digest="f" * 64)) as (source, _), pytest.raises(VersionCorrupt, match="another backbone"):
        source.build(STORED, Precision.FP32)


def test_a_server_whose_features_are_too_few_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with engines(Held()) as (source, (server,)):
        engine: Any = source.build(STORED, Precision.FP32)
        server.held = Held(empty=True)
        with pytest.raises(VersionCorrupt, match="gives features"):
            engine.features(collate(ROWS), FeatureKind.POOLED)
