"""What a worker needs of a version that it serves, and of the place where it finds it.

`service.worker.registry` has the real ones, on torch. A worker itself imports no deep-learning library, so that its own part, all
but the arithmetic, can be run and broken without one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from models.batch_cost import BatchCost
    from service.messages import Form, RemoteEngine, Serving
    from service.worker.pending import PendingRow


Computed: TypeAlias = dict[str, object] | Sequence[bytes]


class Prepared(NamedTuple):
    """An instance that is ready for the device.

    Attributes:
        group: within which rows can share a batch.
        length: in tokens; the rows of a batch are padded to the longest. An image has the length 1.
        rows: that it is in the device's batch: 2 for a pair whose texts are read separately.
        tokens: that are read of it.
    """

    row: Any
    group: Hashable
    length: int = 1
    rows: int = 1
    tokens: int = 0


class Servable(Protocol):
    """A version in memory."""

    def prepare(self, data: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
        """Decodes or tokenises one instance; called in any thread.

        Args:
            data: the instance.
            form: what it is; see `service.messages.Wish`.
            truncate: cut a text that is too long instead of refusing it.

        Raises:
            InputError: this row cannot be answered.
        """

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Computed]:
        """Computes rows of one group, of this version or others; called in a compute thread.

        Returns:
            For each row a prediction, or its part of each tensor that its request asks for, in that order, or its embedding.

        Raises:
            MemoryError: the batch is too large for the device.
            DeviceFailed: the device answers nothing any more; a new process has to take over.
            EngineUnavailable, DeadlineExceeded: the rows are computed elsewhere, and nobody answers, or not in time.
        """

    @property
    def backbone(self) -> str:
        """The digest of the backbone that `compute` runs."""

    @property
    def serving(self) -> Serving:
        """How it is computed here, for whoever asks."""

    @property
    def streams(self) -> int:
        """How many threads may be in `compute` at a time, with a batch each, to have all of the device."""

    @property
    def cost(self) -> BatchCost:
        """Of what `compute` does, by the rows of a batch and their length."""


class Fleet(Protocol):
    """Other servers that compute a worker's batches.

    Attributes:
        most_in_flight: batches that they may be asked for at a time.
    """

    most_in_flight: int

    def take_report(self) -> Sequence[RemoteEngine]:
        """How each of them is, and what was asked of it since this was asked last."""

    def wait_until_up(self, seconds: float) -> bool:
        """Waits for the first of them that answers; returns whether there is one."""


class Servables(Protocol):
    """The versions that a worker holds.

    Attributes:
        fleet: where they are computed, if not here.
    """

    fleet: Fleet | None

    def load(self, name: str, number: int) -> Servable:
        """Loads and checks a version beside the others.

        Raises:
            EngineUnavailable: whoever computes it does not answer now.
            GraftworkError: it must not be served.
        """

    def unload(self, name: str, number: int) -> None:
        """Forgets a version; whoever holds it can use it on."""

    def get(self, name: str, number: int) -> Servable:
        """A loaded version.

        Raises:
            VersionNotFound: it is not loaded.
        """
