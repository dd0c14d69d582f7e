"""What a batch costs on an engine, and how many rows are worth putting into one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

WORTH = 0.95  # of the best rate: a larger batch that is this little faster only makes its rows wait


@dataclass(frozen=True, kw_only=True)
class BatchCost:
    """Seconds that a batch takes, while as many are computed as the engine computes at a time.

    Measured at a few points of a grid; between them they are interpolated, which is exact for a cost of
    ``a + b rows + c length + d rows length``. Beyond them they grow in proportion.

    Attributes:
        rows: ascending.
        lengths: that the rows are padded to, in tokens, ascending; images have the length 1.
        seconds: of each length, of each number of rows; no batch takes less than a smaller one.
    """

    rows: tuple[int, ...]
    lengths: tuple[int, ...]
    seconds: tuple[tuple[float, ...], ...]

    def seconds_of(self, rows: int, length: int) -> float:
        """Of a batch of so many rows that are padded to a length."""
        row, row_share, row_factor = _place(self.rows, rows)
        column, column_share, column_factor = _place(self.lengths, length)

        def at(index: int) -> float:
            times = self.seconds[index]
            return times[row] if not row_share else times[row] + row_share * (times[row + 1] - times[row])

        found = at(column)
        if column_share:
            found += column_share * (at(column + 1) - found)
        return found * row_factor * column_factor

    def rows_worth(self, length: int, most: int) -> int:
        """The batch worth making: the smallest whose rate is about the best that batches of up to ``most`` rows reach."""
        rates = [count / self.seconds_of(count, length) for count in range(1, most + 1)]
        enough = WORTH * max(rates)
        return next(count for count, rate in enumerate(rates, 1) if rate >= enough)


def _place(points: Sequence[int], value: int) -> tuple[int, float, float]:
    """The point before a value, the share of the way to the next one, and what to multiply with beyond the last."""
    if value >= points[-1]:
        return len(points) - 1, 0.0, value / points[-1]
    if value <= points[0]:
        return 0, 0.0, 1.0
    index = bisect_right(points, value) - 1
    return index, (value - points[index]) / (points[index + 1] - points[index]), 1.0


def cost_of(rows: Sequence[int], lengths: Sequence[int], seconds: Sequence[Sequence[float | None]]) -> BatchCost:
    """The cost of what was measured.

    Args:
        rows: ascending, from 1.
        lengths: ascending.
        seconds: as in `BatchCost`; nothing where it was not measured: then it is in proportion to the measured batch of
            fewer rows, or else of a shorter length. The smallest batch was measured.
    """
    filled: list[list[float]] = []
    for index, measured in enumerate(seconds):
        times: list[float] = []
        for column, time in enumerate(measured):
            if time is None and column:
                time = times[-1] * rows[column] / rows[column - 1]
            elif time is None:
                time = filled[-1][0] * lengths[index] / lengths[index - 1]
            times.append(time)
        times = list(accumulate(times, max))
        filled.append(times if not filled else [max(pair) for pair in zip(times, filled[-1], strict=True)])
    return BatchCost(rows=tuple(rows), lengths=tuple(lengths), seconds=tuple(map(tuple, filled)))


# Of an engine that was not measured: what a batch takes at all is as much as a hundred tokens (or images) take.
UNMEASURED = BatchCost(rows=(1, 4096), lengths=(1, 4096), seconds=((0.00101, 0.04196), (0.04196, 167.77316)))
