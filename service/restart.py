"""When a dead worker may start again."""

from __future__ import annotations

import time


class Restart:
    """When a dead worker may start again: soon if it was of use, later each time if it was not.

    Attributes:
        pending: it has not started again yet.
        deaths: how often it died in a row, each time young and without an answer.
    """

    FIRST_SECONDS = 0.1
    MOST_SECONDS = 10.0
    OLD_SECONDS = 30.0

    def __init__(self) -> None:
        self.pending = False
        self.deaths = 0
        self._delay = self.FIRST_SECONDS
        self._started_at = time.monotonic()
        self._due_at = 0.0

    def died(self, *, has_answered: bool = False) -> None:
        """The worker ended.

        Args:
            has_answered: it had computed something: it is not that it cannot start.
        """
        now = time.monotonic()
        if has_answered or now - self._started_at > self.OLD_SECONDS:
            self._delay = self.FIRST_SECONDS
            self.deaths = 0
        self.deaths += 1
        self._due_at = now + self._delay
        self._delay = min(self._delay * 2, self.MOST_SECONDS)
        self.pending = True

    def started(self) -> None:
        self.pending = False
        self._started_at = time.monotonic()

    def seconds_left(self) -> float:
        return max(0.0, self._due_at - time.monotonic())
