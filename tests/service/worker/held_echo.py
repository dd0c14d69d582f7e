"""The echo of the fault runs on a device that a test can hold."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from models.batch_cost import UNMEASURED
from service.messages import Form
from service.worker.pending import PendingRow
from service.worker.servable import Prepared
from tests.faults.echo import Echo, Echoes


class Held:
    """A servable whose device is held by a gate.

    Attributes:
        sizes: of the batches that were asked for.
    """

    def __init__(self, echo: Echo) -> None:
        self.backbone = echo.backbone
        self.streams = 1
        self.cost = UNMEASURED
        self.gate = threading.Event()
        self.gate.set()
        self.sizes: list[int] = []
        self._echo = echo

    def prepare(self, item: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
        return self._echo.prepare(item, truncate=truncate)

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Mapping[str, object]]:
        self.sizes.append(len(batch))
        assert self.gate.wait(30)
        return self._echo.compute(batch)


class HeldEchoes(Echoes):
    def __init__(self) -> None:
        self.held = Held(Echo(backbone="echo", batch_seconds=0.0, row_seconds=0.0))
        super().__init__(self.held)  # type: ignore[arg-type]
