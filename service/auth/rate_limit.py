"""How often a key may ask: a token bucket."""

from __future__ import annotations

import time
from collections.abc import Callable


class RateLimit:
    """A bucket that holds the requests of one second, and one at least; it fills at an even rate.

    Args:
        requests_per_second: that go on for ever.
        clock: seconds; never goes back.
    """

    def __init__(self, requests_per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests_per_second = requests_per_second
        self._most = max(1.0, requests_per_second)
        self._left = self._most
        self._clock = clock
        self._filled_at = clock()

    def take(self) -> float:
        """Counts a request.

        Returns:
            0 where it may be answered, else the seconds until the next one may.
        """
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._filled_at) * self.requests_per_second)
        self._filled_at = now
        if self._left >= 1.0:
            self._left -= 1.0
            return 0.0
        return (1.0 - self._left) / self.requests_per_second
