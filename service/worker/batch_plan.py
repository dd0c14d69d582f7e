"""Which rows share a batch: as many, and as unlike in length, as is worth it on this engine."""

from __future__ import annotations

from collections.abc import Sequence

from models.batch_cost import BatchCost

LOOKAHEAD = 2  # rows that a batch is chosen from, for each row that it can have


class BatchPlan:
    """Chooses batches of one group of rows.

    Args:
        cost: of batches on its engine.
        max_batch_rows: the largest batch.
    """

    def __init__(self, cost: BatchCost, max_batch_rows: int) -> None:
        self._cost = cost
        self._max_batch_rows = max_batch_rows
        self._curves: dict[int, _Curve] = {}
        self.window = LOOKAHEAD * self._curve(1).worth

    def row_seconds(self, length: int) -> float:
        """What a row of this length costs in the best batch of its like."""
        return self._curve(length).row_seconds(self._max_batch_rows)

    def choose(
        self, lengths: Sequence[int], rows: Sequence[int], lead: int, *, most_rows: int, most_tokens: float
    ) -> slice:
        """A batch around one entry, out of entries in order of length.

        It grows by its neighbours in length, one at a time, by whichever makes more of the device's time; where it has made
        most of it is the batch. A row is worth what it would cost among its like, if half of the rows were: so shorter ones
        are not taken along where padding them costs more than another batch.

        Args:
            lengths: ascending.
            rows: that each of them is, 1 or 2.
            lead: index of the entry that is in it in any case.
            most_rows: of the batch.
            most_tokens: rows times the length that they are padded to.
        """
        alike = max(1, sum(rows) // 2)
        first, last, padded, count = lead, lead, lengths[lead], rows[lead]
        curve = self._curve(padded)
        worth = count * curve.row_seconds(alike)
        best, chosen = worth / curve.seconds[count], (first, last)
        while True:
            with_shorter = with_longer = 0.0
            shorter_worth = longer_worth = worth
            above = curve
            if first > 0:
                more = count + rows[first - 1]
                if more <= most_rows and more <= curve.worth and more * padded <= most_tokens:
                    shorter_worth += rows[first - 1] * self._curve(lengths[first - 1]).row_seconds(alike)
                    with_shorter = shorter_worth / curve.seconds[more]
            if last + 1 < len(lengths):
                more = count + rows[last + 1]
                above = self._curve(lengths[last + 1])
                if more <= most_rows and more <= above.worth and more * lengths[last + 1] <= most_tokens:
                    longer_worth += rows[last + 1] * above.row_seconds(alike)
                    with_longer = longer_worth / above.seconds[more]
            if not with_shorter and not with_longer:
                break
            if with_shorter > with_longer:
                first, worth, count = first - 1, shorter_worth, count + rows[first - 1]
            else:
                last, padded, curve, worth = last + 1, lengths[last + 1], above, longer_worth
                count += rows[last]
            if max(with_shorter, with_longer) > best:
                best, chosen = max(with_shorter, with_longer), (first, last)
        return slice(chosen[0], chosen[1] + 1)

    def _curve(self, length: int) -> _Curve:
        curve = self._curves.get(length)
        if curve is None:
            curve = self._curves[length] = _Curve(self._cost, length, self._max_batch_rows)
        return curve


class _Curve:
    """Batches of one length.

    Attributes:
        seconds: of a batch, by its rows: those worth putting into one, and at least a pair.
        worth: rows of the batch worth making.
    """

    def __init__(self, cost: BatchCost, length: int, max_batch_rows: int) -> None:
        self.worth = cost.rows_worth(length, max_batch_rows)
        self.seconds = [cost.seconds(rows, length) for rows in range(max(self.worth, 2) + 1)]

    def row_seconds(self, rows: int) -> float:
        """Of one row in a batch of so many, or in the one worth making."""
        rows = min(rows, self.worth)
        return self.seconds[rows] / rows
