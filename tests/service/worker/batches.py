"""Requests that share one batch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.processes import wait_for
from tests.service.worker.conversation import Conversation


@dataclass(kw_only=True)
class Batches:
    """Sends one-row requests so that all that can be computed is one batch."""

    conversation: Conversation
    gate: threading.Event
    sizes: Sequence[int]
    name: str
    filler: bytes = b"filler"

    def alone(self, row: bytes) -> Any:
        """Its outcome without company."""
        number = self.conversation.ask(row, name=self.name)
        return self.conversation.outcomes(1)[number]

    def together(self, rows: Sequence[bytes], *, decodable: int) -> list[Any]:
        """The outcome of each row."""
        before = len(self.sizes)
        self.gate.clear()
        filler = self.conversation.ask(self.filler, name=self.name)
        wait_for(lambda: len(self.sizes) > before, 30, pause=0.0005)
        ids = [self.conversation.ask(row, name=self.name) for row in rows]
        self.conversation.wait_for_rows(decodable)
        self.gate.set()
        found = self.conversation.outcomes(len(rows) + 1)
        assert found.pop(filler) == self.alone(self.filler)
        assert list(self.sizes[before + 1 : before + 2]) == ([decodable] if decodable else [1])
        return [found[number] for number in ids]
