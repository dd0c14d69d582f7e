"""How long a call takes at its best, and whether others wait for it.

A busy machine makes a call slower now and then, never quicker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def quickest(call: Callable[[], object], *, bound: float, tries: int = 5) -> float:
    """CPU seconds of this process for the first of several tries that stays below a bound, else of the best one."""
    best = float("inf")
    for _ in range(tries):
        started = time.process_time()
        call()
        best = min(best, time.process_time() - started)
        if best < bound:
            break
    return best


def longest_wait(call: Callable[[], object]) -> float:
    """How long another thread waits for the interpreter's lock at most while a call runs, as a share of the call's time."""
    longest = 0.0
    over = threading.Event()

    def wait() -> None:
        nonlocal longest
        last = time.monotonic()
        while not over.is_set():
            now = time.monotonic()
            longest = max(longest, now - last)
            last = now

    other = threading.Thread(target=wait)
    other.start()
    started = time.monotonic()
    try:
        call()
    finally:
        seconds = time.monotonic() - started
        over.set()
        other.join()
    return longest / seconds
