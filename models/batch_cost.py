"""What a batch costs on an engine, and how many rows are worth putting into one."""

from __future__ import annotations

from dataclasses import dataclass

WORTH = 0.95  # of the best rate: a larger batch that is this little faster only makes its rows wait


@dataclass(frozen=True, kw_only=True)
class BatchCost:
    """Seconds that a batch takes, while as many are computed as the engine computes at a time.

    Each attribute is at least 0, so that no batch takes less than a smaller one.

    Attributes:
        per_batch: whatever is in it.
        per_row: of each row; an image.
        per_token: of each token, those that pad a row among them.
        per_pair: of each pair of tokens of a row: attention.
    """

    per_batch: float
    per_row: float
    per_token: float = 0.0
    per_pair: float = 0.0

    def seconds(self, rows: int, length: int) -> float:
        """Of a batch of so many rows that are padded to a length in tokens; images have the length 1."""
        return self.per_batch + rows * (self.per_row + length * (self.per_token + length * self.per_pair))

    def rows_worth(self, length: int, most: int) -> int:
        """The batch worth making: the smallest whose rate is about the best that batches of up to ``most`` rows reach."""
        enough = WORTH * most / self.seconds(most, length)
        return next(rows for rows in range(1, most + 1) if rows / self.seconds(rows, length) >= enough)


# Of an engine that was not measured: what any batch takes is as much as a hundred tokens take.
UNMEASURED = BatchCost(per_batch=1e-3, per_row=0.0, per_token=1e-5)
