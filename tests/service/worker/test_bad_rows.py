"""Row G14: k bad rows of 8 are k errors, and the others are answered as if they had been alone."""

from __future__ import annotations

import hashlib
import itertools
import threading
from pathlib import Path

import pytest

from models.backbone_store import StoredBackbone
from models.batch import Batch as EngineBatch
from models.batch import TextBatch
from models.engine import Engine
from models.features import FeatureKind, Features
from models.repository import ModelRepository
from service.worker.registry import Registry
from tests.faults.echo import BAD, BUG
from tests.service.worker.batches import Batches
from tests.service.worker.conversation import Conversation
from tests.tiny_models import TorchEngines, torch_engine

PATTERNS = list(itertools.product([False, True], repeat=8))


@pytest.mark.parametrize(("word", "code"), [(BAD, "empty_text"), (BUG, "internal")])
def test_g14_exactly_the_bad_rows_fail(echoes: Batches, word: bytes, code: str) -> None:
    good = [b"good %d" % index for index in range(8)]
    bad = [b"%s %d" % (word, index) for index in range(8)]
    unbatched = [echoes.alone(row) for row in good]
    assert [predictions[0]["label"] for predictions in unbatched] == [hashlib.sha256(row).hexdigest() for row in good]
    for pattern in PATTERNS:
        rows = [bad[index] if is_bad else good[index] for index, is_bad in enumerate(pattern)]
        decodable = 8 if word == BUG else 8 - sum(pattern)
        wanted = [code if is_bad else unbatched[index] for index, is_bad in enumerate(pattern)]
        assert echoes.together(rows, decodable=decodable) == wanted, pattern


class BuggyEngine:
    """A real engine with a bug: a batch with a certain token breaks it.

    Attributes:
        gate: closed, it holds the device.
        sizes: of the batches that were asked for.
    """

    TOKEN = 5 + 38  # the exclamation mark, in the vocabulary of the tiny text encoder

    def __init__(self, engine: Engine) -> None:
        self.identity = engine.identity
        self.streams = engine.streams
        self.cost = engine.cost
        self.gate = threading.Event()
        self.gate.set()
        self.sizes: list[int] = []
        self._engine = engine

    def features(self, batch: EngineBatch, kind: FeatureKind) -> Features:
        assert isinstance(batch, TextBatch)
        self.sizes.append(len(batch.ids_BT))
        assert self.gate.wait(30)
        if (batch.ids_BT == self.TOKEN).any():
            raise RuntimeError("a bug")
        return self._engine.features(batch, kind)

    def warm_up(self) -> None:
        self._engine.warm_up()


def test_g14_on_a_real_model(models_on_disk: Path) -> None:
    engines: list[BuggyEngine] = []

    def build(stored: StoredBackbone) -> Engine:
        engines.append(BuggyEngine(torch_engine(stored)))
        return engines[-1]

    registry = Registry(ModelRepository(models_on_disk), TorchEngines(build))
    registry.load("letters", 1)
    (engine,) = engines
    conversation = Conversation(registry)
    try:
        batches = Batches(
            conversation=conversation, gate=engine.gate, sizes=engine.sizes, name="letters", filler=b"it is x"
        )
        good = [b"it is %c" % letter for letter in b"abcdefgh"]
        unbatched = [batches.alone(row)[0]["scores"] for row in good]
        assert len({round(scores["vowel"], 5) for scores in unbatched}) == 8
        for pattern in PATTERNS:
            rows = [b"it is !" if is_bad else good[index] for index, is_bad in enumerate(pattern)]
            found = batches.together(rows, decodable=8)
            for index, is_bad in enumerate(pattern):
                if is_bad:
                    assert found[index] == "internal"
                else:
                    assert found[index][0]["scores"] == pytest.approx(unbatched[index], abs=1e-5)
    finally:
        engine.gate.set()
        conversation.end()
