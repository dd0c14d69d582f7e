"""The learning rate of each step: a linear rise, then half a cosine down to zero.

Goyal et al. 2017 ("Accurate, Large Minibatch SGD") for the rise, Loshchilov & Hutter 2017 ("SGDR") for the cosine. A function of
the step's number alone, so that a run that goes on from a checkpoint needs to remember nothing.
"""

from __future__ import annotations

import math


def learning_rate_share(step: int, *, steps: int, warmup: float) -> float:
    """What the learning rates are multiplied by: over 0, and 1 at most.

    Args:
        step: from 0.
        steps: of the whole run.
        warmup: share of the steps in which it rises.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2
