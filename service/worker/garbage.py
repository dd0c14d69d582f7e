"""What the garbage collector of a worker need not look at."""

from __future__ import annotations

import gc


def keep_all() -> None:
    """Takes what is in memory, such as imported libraries, out of the garbage collector's sight, but for what is garbage.

    A full collection would look at all of it each time, and hold up rows meanwhile.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
