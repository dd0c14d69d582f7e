"""An engine whose features encode its input, and versions on it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from models.batch import Batch, ImageBatch, Row, TextRow, collate
from models.batch_cost import UNMEASURED
from models.errors import EmptyText, VersionCorrupt, VersionNotFound
from models.features import FeatureKind, Features
from models.head import Head
from models.predictor import Predictor
from models.preprocessor import RawItem
from service.messages import Serving
from service.worker.loaded_version import LoadedVersion
from service.worker.servable import Fleet
from tests.tiny_models import text_manifest

SCALE = 1000.0


POISON = -1  # makes the engine raise


NOT_FINITE = -2  # makes it give a feature that is no number


class EchoEngine:
    """The features of a text are its number and 1, so that an answer shows for which text it is and through which head it went.

    Attributes:
        batches: the numbers of each batch that was asked for.
        gate: closed, it holds the device: rows that arrive meanwhile are the next batch.
    """

    identity = "echo"
    streams = 1
    cost = UNMEASURED

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        assert not isinstance(batch, ImageBatch)
        numbers = batch.ids_BT[:, 0].tolist()
        self.batches.append(numbers)
        assert self.gate.wait(30)
        if POISON in numbers:
            raise RuntimeError("poison")
        features_BD = torch.ones(len(numbers), 2)
        features_BD[:, 0] = batch.ids_BT[:, 0].float() / SCALE
        features_BD[batch.ids_BT[:, 0] == NOT_FINITE] = torch.nan
        return Features(kind=kind, values=features_BD)

    def warm_up(self) -> None:
        pass


class EchoPreprocessor:
    """Reads texts such as ``17``, or ``17 0 0`` for a longer row; ``blank`` is no text, and ``?`` breaks it."""

    def prepare(self, item: RawItem, *, truncate: bool = False) -> Row:
        assert isinstance(item, str)
        if item in ("blank", ""):
            raise EmptyText("the text is empty")
        return self.prepare_tokens([int(word) for word in item.split()], truncate=truncate)

    prepare_text = prepare

    def prepare_tokens(self, ids: Sequence[int], *, truncate: bool = False) -> TextRow:
        if not ids:
            raise EmptyText("there are no tokens")
        return TextRow(ids=ids, segments=[0] * len(ids), truncated=truncate)

    def collate(self, rows: Sequence[Row]) -> Batch:
        return collate(rows)


def decoded(predictions: Sequence[Mapping[str, Any]], weight: float) -> list[float]:
    """The numbers that answers are for, if they went through the head with this weight."""
    scores = [prediction["scores"] for prediction in predictions]
    return [round(math.log(each["yes"] / each["no"]) * SCALE / weight, 1) for each in scores]


def echo_version(engine: EchoEngine, name: str = "echo", number: int = 1, *, weight: float = 1.0) -> LoadedVersion:
    """A version on the echo engine with the labels ``yes`` and ``no``."""
    return LoadedVersion(
        manifest=text_manifest(name, number),
        backbone="echo-backbone",
        serving=SERVING,
        predictor=Predictor(
            preprocessor=EchoPreprocessor(),
            engine=engine,
            head=Head(weight_CD=torch.tensor([[weight, 0.0], [0.0, 0.0]]), bias_C=torch.zeros(2)),
            labels=("yes", "no"),
        ),
    )


SERVING = Serving(engine="echo", precision="fp32", reason="it is the only one")


class EchoRegistry:
    """What a worker serves, without a disk.

    Attributes:
        refused: why a version cannot be loaded, by number.
        on_load: called before a load ends.
        fleet: of the worker that serves it.
    """

    fleet: Fleet | None = None

    def __init__(self, *versions: LoadedVersion) -> None:
        self.versions = {(v.manifest.name, v.manifest.number): v for v in versions}
        self.refused: dict[int, str] = {}
        self.loads: list[tuple[str, int]] = []
        self.unloads: list[tuple[str, int]] = []
        self.on_load: Callable[[str, int], None] = lambda name, number: None

    def load(self, name: str, number: int) -> LoadedVersion:
        self.loads.append((name, number))
        self.on_load(name, number)
        if number in self.refused:
            raise VersionCorrupt(self.refused[number])
        return self.get(name, number)

    def unload(self, name: str, number: int) -> None:
        self.unloads.append((name, number))

    def get(self, name: str, number: int) -> LoadedVersion:
        try:
            return self.versions[name, number]
        except KeyError:
            raise VersionNotFound("not loaded") from None
