"""Which rows are held out together when a setting is judged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from finetune.whitening import Targets
from models.cores import available_cores
from models.errors import DatasetInvalid

FOLDS = 5
HELD_OUT = 4_000  # rows; a share of so many has a standard error of 0.8 % at most, and folds take time

Units: TypeAlias = Sequence[Collection[Hashable]]

T = TypeVar("T")


def assign_folds(
    contents_NX: npt.NDArray[Any],
    strata_N: Targets,
    *,
    units: Units | None = None,
    spare: bool = True,
    folds: int = FOLDS,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Deals the rows of each stratum out to the folds in turn, so that the other folds always hold that stratum too.

    Rows of one stratum with equal contents are copies and share a fold, and so do rows of one unit: a copy in training
    would give the held-out one away. Of very many rows not every fold is held out.

    Args:
        contents_NX: what makes rows equal, such as features.
        strata_N: the class of each row, or whatever folds should have alike.
        units: for each row the names of what it belongs to; rows that share one stay together.
        spare: whether a stratum that is all in one unit is never held out, because no fold can do without it.
        folds: at least 2.
        seed: equal seeds give equal folds.

    Returns:
        For each row its fold, from 0; there are ``folds`` of them, or as many as units that can be held out, but of at
        least two no more than have `HELD_OUT` rows. -1 for a row that is never held out.

    Raises:
        DatasetInvalid: nothing can be held out.
    """
    random = np.random.default_rng(seed)
    together = _Together([()] * len(strata_N) if units is None else units)
    ordered: list[list[int]] = []  # of each stratum, one row of each copy, in the order of their contents
    for stratum in np.unique(strata_N):
        rows = np.flatnonzero(strata_N == stratum)
        _, first, copy_of = np.unique(contents_NX[rows], axis=0, return_index=True, return_inverse=True)
        for row, copy in zip(rows.tolist(), copy_of.reshape(-1).tolist(), strict=True):
            together.join(row, int(rows[first[copy]]))
        ordered.append(rows[first].tolist())
    roots = [list(dict.fromkeys(map(together.root, rows))) for rows in ordered]
    needed = {own[0] for own in roots if len(own) == 1} if spare else set()
    members = together.members()
    dealt: list[Sequence[int]] = []
    taken = set(needed)
    for own in roots:
        if len(own) == 1 and spare:
            continue
        for number in random.permutation(len(own)):
            if own[number] not in taken:
                taken.add(own[number])
                dealt.append(members[own[number]])
    if not dealt or len(dealt) + len(needed) == 1:
        cure = "each class two different examples" if spare else "two different examples or more"
        raise DatasetInvalid(f"nothing can be held out to choose a head by; give {cure}")
    fold_N = np.full(len(strata_N), -1)
    for turn, unit in enumerate(dealt):
        fold_N[unit] = turn % min(folds, len(dealt))
    enough = max(2, int(np.searchsorted(np.bincount(fold_N[fold_N >= 0]).cumsum(), HELD_OUT)) + 1)
    fold_N[fold_N >= enough] = -1
    return fold_N


class _Together:
    """Rows that belong together, directly or by way of others.

    Args:
        units: for each row the names of what it belongs to.
    """

    def __init__(self, units: Units) -> None:
        self._parents = list(range(len(units)))
        first: dict[Hashable, int] = {}
        for row, names in enumerate(units):
            for name in names:
                self.join(row, first.setdefault(name, row))

    def root(self, row: int) -> int:
        while (parent := self._parents[row]) != row:
            self._parents[row] = row = self._parents[parent]
        return row

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        self._parents[high] = low

    def members(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for row in range(len(self._parents)):
            found.setdefault(self.root(row), []).append(row)
        return found


@contextmanager
def fitting_threads(threads: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads that fit one model each; the libraries below them get one thread, so that equal fits give equal bits.

    Args:
        threads: None means one for each core of this process.
    """
    import scipy.optimize  # noqa: F401  # its BLAS is another than numpy's, and what is loaded later is not limited
    from threadpoolctl import threadpool_limits

    with (
        threadpool_limits(limits=1),
        ThreadPoolExecutor(max_workers=threads or available_cores()) as pool,
    ):
        yield pool


def in_folds(
    pool: ThreadPoolExecutor,
    fold_N: npt.NDArray[np.int64],
    work: Callable[[int], T],
    folds: Iterable[int] | None = None,
) -> list[T]:
    """What comes of each fold, in order; all folds at the same time, as far as there are threads."""
    return list(pool.map(work, range(int(fold_N.max()) + 1) if folds is None else folds))


def held_out(fold_N: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """The rows that are held out, those of the first fold first: the order of joined results of `in_folds`."""
    return np.concatenate([np.flatnonzero(fold_N == fold) for fold in range(int(fold_N.max()) + 1)])
