"""Who answers in the place of a service, and runs over small inputs."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from models.errors import EmptyText, ImageUndecodable
from models.version import Reference
from service.client import Item, Predictions
from service.client.predictions import parse_prediction
from service.scoring.batch import Batch
from service.scoring.columns import Columns
from service.scoring.output import Done


def single_label(text: str) -> dict[str, Any]:
    """A prediction that says what was asked."""
    return {"label": text[::-1], "score": len(text) / 1000, "scores": {text[::-1]: len(text) / 1000}}


def said(item: Item) -> str:
    """An item as a text; of an image its bytes."""
    return (
        item.read_bytes().decode()
        if isinstance(item, Path)
        else "|".join(item)
        if isinstance(item, tuple)
        else str(item)
    )


class Asked:
    """Answers each item with itself backwards, and refuses requests that have a bad one among them.

    Args:
        number: of the version that is newest; later requests that name one get that one.
        answer: to a text.

    Attributes:
        requests: which reference was asked about how many items.
        most: how many requests were under way at a time.
        lost: raised by the request that finds it.
    """

    def __init__(self, number: int = 3, answer: Callable[[str], dict[str, Any]] = single_label) -> None:
        self.requests: list[tuple[str, int]] = []
        self.most = 0
        self.lost: dict[str, BaseException] = {}
        self._number = number
        self._answer = answer
        self._under_way = 0

    async def predict(
        self, reference: Reference, items: Sequence[Item], *, top_k: int | None, truncate: bool
    ) -> Predictions:
        self.requests.append((str(reference), len(items)))
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        for _ in range(1 + len(self.requests) % 3):  # later ones may be quicker
            await asyncio.sleep(0)
        self._under_way -= 1
        texts = list(map(said, items))
        for index, text in enumerate(texts):
            if text in self.lost:
                raise self.lost[text]
            if not text:
                raise EmptyText(f"instance {index}: the text is empty")
            if "bad" in text:
                raise ImageUndecodable(f"instance {index}: no image")
        predictions = tuple(parse_prediction(self._answer(text)) for text in texts)
        return Predictions(
            model=reference.name, version=reference.number or self._number, request_id="r", predictions=predictions
        )


def score(
    path: Path,
    output: Path | None,
    asked: Asked | None = None,
    *,
    model: str = "m",
    columns: Columns | None = None,
    overwrite: bool = False,
    concurrency: int = 2,
    top_k: int = 3,
    truncate: bool = False,
) -> Done:
    """A run of its own."""
    batch = Batch(
        reference=Reference.parse(model),
        path=path,
        columns=columns or Columns(),
        output=output,
        overwrite=overwrite,
        top_k=top_k,
        truncate=truncate,
        concurrency=concurrency,
    )
    asked = asked or Asked()
    return asyncio.run(batch.run(asked, asked, Console(file=io.StringIO())))
