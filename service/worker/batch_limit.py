"""What was learned of batches that did not fit into the device's memory."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from math import inf

logger = logging.getLogger(__name__)

PATIENCE = 64  # batches until a larger one is tried: one that fails then costs under two per cent of the time
MOST_PATIENCE = 64 * PATIENCE


class BatchLimit:
    """The largest batch of one group, in rows times the length that they are padded to.

    It is half of what did not fit. Memory that somebody else held may be free again, so after some batches twice as much is
    tried, and where that fails, the next time after twice as many batches.

    Args:
        group: for the log.

    Attributes:
        tokens: infinite where nothing was learned.
    """

    def __init__(self, group: Hashable) -> None:
        self.tokens = inf
        self._group = group
        self._failed = 0  # what did not fit the last time that it was tried
        self._patience = PATIENCE
        self._batches = 0
        self._has_grown = False

    def too_large(self, tokens: int) -> None:
        """A batch of this size did not fit."""
        half = max(1, tokens // 2)
        if half >= self.tokens:  # it was taken before this was learned
            return
        if self.tokens == inf or self._has_grown:
            self._failed = tokens
        if self._has_grown:
            self._patience = min(2 * self._patience, MOST_PATIENCE)
        self._has_grown, self._batches = False, 0
        self._change(half, f"batches have at most {half} tokens with padding, or images: {tokens} did not fit")

    def count(self) -> None:
        """A batch was taken."""
        if self.tokens == inf:
            return
        self._batches += 1
        if self._batches < self._patience:
            return
        self._has_grown, self._batches = True, 0
        if 2 * self.tokens >= self._failed:
            self._change(inf, "batches are as large again as they were before some did not fit")
        else:
            self._change(2 * self.tokens, f"batches have at most {2 * self.tokens:.0f} tokens with padding, or images")

    def _change(self, tokens: float, message: str) -> None:
        self.tokens = tokens
        logger.warning(message, extra={"fields": {"group": str(self._group)}})
