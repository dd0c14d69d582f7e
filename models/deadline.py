"""Until when a result is of use: for engines that ask others for it, and can have them stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def deadline() -> float | None:
    """That of the batch which this thread computes, by the monotonic clock, in seconds; None where nobody is in a hurry."""
    return _deadline.get()


@contextmanager
def until(moment: float) -> Iterator[None]:
    """Whatever is computed in the block is of no use later."""
    token = _deadline.set(moment)
    try:
        yield
    finally:
        _deadline.reset(token)
