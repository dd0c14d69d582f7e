"""In which order rows are learnt from: a function of seed and epoch, so that a run can go on from any step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_WINDOW = 32  # batches whose rows are sorted by length together


class RowOrder:
    """Cuts every epoch into batches.

    Texts of similar length share a batch, for all are padded to the longest. Rows are shuffled, sorted by length within windows
    of some batches, and the batches are shuffled again.

    Args:
        count: rows, N.
        batch_size: rows of a batch; the last one of an epoch may have fewer.
        seed: of the run.
        lengths: of each row, where that matters.
    """

    def __init__(self, count: int, *, batch_size: int, seed: int, lengths: Sequence[int] | None = None) -> None:
        self._count, self._batch_size, self._seed = count, batch_size, seed
        self._lengths_N = None if lengths is None else np.asarray(lengths)
        self.batches = -(-count // batch_size)

    def epoch(self, number: int) -> Sequence[npt.NDArray[np.int64]]:
        """The rows of each batch; every row once."""
        random = np.random.default_rng([self._seed, number])
        order_N = random.permutation(self._count)
        if self._lengths_N is None:
            return self._cut(order_N)
        window = _WINDOW * self._batch_size
        parts = [order_N[start : start + window] for start in range(0, self._count, window)]
        by_length = [part[np.argsort(self._lengths_N[part], kind="stable")] for part in parts]
        batches = self._cut(np.concatenate(by_length))
        return [batches[index] for index in random.permutation(len(batches))]

    def _cut(self, order_N: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        return [order_N[start : start + self._batch_size] for start in range(0, self._count, self._batch_size)]
