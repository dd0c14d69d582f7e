"""A question whose answers encode what was asked, and requests that carry it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any, cast

import orjson

from models.manifest import Manifest
from models.preprocessor import PairReading, TextPreprocessorConfig
from models.task import Task
from models.version import ModelVersion
from service.api.inference import Part, Question
from service.api.tei.model import ModelKind
from service.api.tei.request import TeiRequest
from service.api.worker_connection import Reply
from service.messages import Item, Timings, Wish, pack_element
from tests.tiny_models import text_manifest

ROWS_A_PART = 3


def manifest(
    task: Task = Task.SINGLE_LABEL, labels: Sequence[str] = ("yes", "no"), pair: PairReading | None = None
) -> Manifest:
    return text_manifest("model", 1).model_copy(
        update={
            "task": task,
            "labels": tuple(labels),
            "preprocessor": TextPreprocessorConfig(max_tokens=64, pair=pair),
        }
    )


class ScriptedQuestion:
    """Answers a list in parts, the last rows first.

    Args:
        of: who is asked.
        numbers: those that a row is answered with.

    Attributes:
        wish: that was heard.
        bytes: that were counted.
    """

    def __init__(self, of: Manifest, numbers: Callable[[Item], Sequence[float]]) -> None:
        self.version = ModelVersion(name=of.name, number=of.number, directory=cast("Any", None), manifest=of)
        self._numbers = numbers
        self.ticket = self
        self.bytes = 0
        self.wish = Wish()
        self.items: Sequence[Item] = ()

    def take_bytes(self, size: int) -> None:
        self.bytes += size

    async def ask_in_parts(self, items: Sequence[Item], wish: Wish) -> Sequence[Part]:
        self.items, self.wish = items, wish
        places = list(range(len(items)))[::-1]
        parts = [places[start : start + ROWS_A_PART] for start in range(0, len(places), ROWS_A_PART)]
        return [
            Part(places=part, reply=Reply(payload=self._payload([items[i] for i in part]), timings=Timings()))
            for part in parts
        ]

    def _payload(self, items: Sequence[Item]) -> bytes:
        rows = [self._numbers(item) for item in items]
        if self.wish.embedding is not None and self.wish.embedding.as_json:
            return b"".join(pack_element(orjson.dumps(row)) for row in rows)
        return b"".join(array("f", row).tobytes() for row in rows)

    def request(self, document: Any, kind: ModelKind = ModelKind.CLASSIFIER) -> TeiRequest:
        return TeiRequest(document=document, question=cast("Question", self), kind=kind)
