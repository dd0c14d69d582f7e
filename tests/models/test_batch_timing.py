from __future__ import annotations

import math
import random
import time
from pathlib import Path

import pytest
import torch

from models import batch_timing
from models.backbone_store import BackboneStore, StoredBackbone
from models.batch import Batch, ImageBatch
from models.batch_cost import UNMEASURED, BatchCost
from models.batch_timing import fit_cost, measure_cost
from models.features import FeatureKind, Features
from models.sources import fetch_checkpoint

TRUE = BatchCost(per_batch=2e-3, per_row=1e-4, per_token=1e-4, per_pair=1e-7)


@pytest.fixture(params=["tiny_text", "tiny_vision"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> StoredBackbone:
    return BackboneStore(tmp_path).add(fetch_checkpoint(request.getfixturevalue(request.param)))


class Sleepy:
    """An engine whose batches take as long as is said."""

    identity = "sleepy"
    cost = UNMEASURED

    def __init__(self, cost: BatchCost, *, streams: int = 1) -> None:
        self.streams = streams
        self.shapes: list[tuple[int, int]] = []
        self._cost = cost

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        shape = (len(batch.pixels_BCHW), 1) if isinstance(batch, ImageBatch) else tuple(batch.ids_BT.shape)
        self.shapes.append((shape[0], shape[1]))
        time.sleep(self._cost.seconds(shape[0], shape[1]))
        return Features(kind=kind, values=torch.zeros(shape[0], 1))

    def warm_up(self) -> None:
        pass


def test_the_cost_of_an_engine_is_found(stored: StoredBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_timing, "SECONDS", 0.5)
    true = BatchCost(per_batch=4e-3, per_row=1e-3)
    found = measure_cost(Sleepy(true, streams=2), stored.config)
    for rows in (1, 4, 8):  # a loaded machine adds to it
        assert 0.9 * true.seconds(rows, 1) < found.seconds(rows, 1) < 3 * true.seconds(rows, 1)


def test_a_slow_engine_is_measured_on_small_batches_only(
    stored: StoredBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_timing, "SECONDS", 0.2)
    engine = Sleepy(BatchCost(per_batch=0.0, per_row=0.02, per_token=0.002))
    measure_cost(engine, stored.config)
    assert engine.shapes
    assert max(map(math.prod, engine.shapes)) <= 32


def test_a_very_slow_engine_makes_small_batches(stored: StoredBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one row alone takes could be all the batch's; then any number of rows would be worth waiting for."""
    monkeypatch.setattr(batch_timing, "SECONDS", 0.001)
    found = measure_cost(Sleepy(BatchCost(per_batch=0.0, per_row=0.05)), stored.config)
    assert found.per_batch < 0.02
    assert found.seconds(8, 1) > 0.3


def test_a_few_bad_measurements_change_little() -> None:
    chance = random.Random(0)
    measured = {(n, t): TRUE.seconds(n, t) for n in (1, 2, 4, 8, 16, 32) for t in (8, 32, 128, 510)}
    for shape in chance.sample(sorted(measured), 6):
        measured[shape] *= chance.uniform(1.5, 4.0)
    found = fit_cost(measured)
    for n, t in [(1, 8), (3, 40), (8, 20), (20, 300)]:
        assert found.seconds(n, t) == pytest.approx(TRUE.seconds(n, t), rel=0.02)


def test_images_cost_by_the_row() -> None:
    found = fit_cost({(n, 1): 0.003 + 0.001 * n for n in (1, 2, 4, 8)})
    assert found.per_batch == pytest.approx(0.003)
    assert found.per_row == pytest.approx(0.001)
    assert found.per_token == found.per_pair == 0.0
