"""The shapes of batches that an engine is asked for: few, because the first batch of each costs as much as several of it.

OpenVINO compiles kernels for the shape of a batch when it first meets it, and texts come in thousands of shapes. Mixed sentences in
int8 went 1.4 to 1.8 times as fast in the shapes below, which they are padded to, as in shapes of their own
(``python -m tests.benchmarks.shapes``).
"""

from __future__ import annotations

STEPS = 4  # to an octave: a size is enlarged by a tenth on average, and by a quarter at most


def next_size(size: int, most: int | None = None) -> int:
    """The smallest size, at least so large, of which batches are made: up to 8 all of them, then 10, 12, 14, 16, 20, 24, ...

    Args:
        size: rows, or tokens of a row.
        most: that there may be; it is a size too.
    """
    step = 1
    while size > 2 * STEPS * step:
        step *= 2
    found = -(-size // step) * step
    return found if most is None else max(size, min(found, most))
