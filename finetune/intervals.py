"""How sure a score is: intervals around shares and around anything that rows can be resampled for.

Shapes: N rows, R resamples, K statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# Rows drawn at once by `bootstrap`: bounds its memory to a few tens of megabytes, whatever N is.
_DRAWS_AT_ONCE = 1_000_000


class Interval(NamedTuple):
    """A closed interval; as a tuple it is ``(low, high)``."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The Wilson score interval of a share, which stays right for few rows and for shares near 0 and 1.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference"; recommended over the
    normal approximation by Brown, Cai and DasGupta 2001, "Interval estimation for a binomial proportion".

    Args:
        successes: how many of the ``n`` rows count, 0 to ``n``.
        n: number of rows, at least 1.
        confidence: coverage, between 0 and 1 (both excluded).

    Raises:
        ValueError: an argument is out of its range.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a share needs 0 <= successes <= n and n >= 1, not {successes} of {n}")
    z = NormalDist().inv_cdf(0.5 + _checked(confidence) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n successes a bound equals the share; rounding must not move it past.
    return Interval(max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def bootstrap(
    statistics: Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float64]],
    rows: int,
    *,
    seed: int,
    resamples: int = 1000,
) -> npt.NDArray[np.float64]:
    """Statistics of resampled rows (Efron 1979, "Bootstrap methods: another look at the jackknife").

    Args:
        statistics: from row indices (R, N), drawn with replacement, to their statistics (R, K); called a few times
            with a part of the resamples each.
        rows: N, at least 1.
        seed: equal seeds give equal results.
        resamples: R, at least 1.

    Returns:
        Statistics (R, K).
    """
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // rows)
    parts = [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
    return np.concatenate([statistics(generator.integers(rows, size=(part, rows))) for part in parts])


def percentile(estimate: float, resampled_R: npt.NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """The percentile interval of a bootstrap, widened where needed to hold the estimate itself.

    A resample repeats rows, which biases some statistics: the calibration error of a well calibrated classifier grows
    in nearly every resample, so that the plain percentiles can lie wholly above the estimate.

    Args:
        estimate: the statistic of the rows as they are.
        resampled_R: the same statistic of each resample.
        confidence: coverage, between 0 and 1 (both excluded).

    Raises:
        ValueError: ``confidence`` is out of its range.
    """
    tail = (1 - _checked(confidence)) / 2
    low, high = np.quantile(resampled_R, [tail, 1 - tail])
    return Interval(min(float(low), estimate), max(float(high), estimate))


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not {confidence}")
    return confidence
