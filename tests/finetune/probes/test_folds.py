from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.probes.folds import HELD_OUT, assign_folds
from models.errors import DatasetInvalid
from tests.finetune.probes.blobs import blobs


def test_another_seed_deals_other_folds() -> None:
    features_ND, targets_N = blobs(60)
    one, other = (assign_folds(features_ND, targets_N, folds=5, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one, other)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(2, 6),
    st.integers(0, 5),
)
def test_every_class_stays_in_the_training_part_of_every_fold(
    rows: list[tuple[int, int]], folds: int, seed: int
) -> None:
    targets_N = np.array([target for target, _ in rows])
    features_ND = np.array([[content] for _, content in rows], dtype=np.float32)
    different = {target: {content for t, content in rows if t == target} for target in set(targets_N.tolist())}
    if all(len(contents) == 1 for contents in different.values()):
        with pytest.raises(DatasetInvalid, match="each class two different examples"):
            assign_folds(features_ND, targets_N, folds=folds, seed=seed)
        return
    fold_N = assign_folds(features_ND, targets_N, folds=folds, seed=seed)
    for fold in range(fold_N.max() + 1):
        assert (fold_N == fold).any()
        assert set(targets_N[fold_N != fold]) == set(targets_N)
    for (target, content), fold in zip(rows, fold_N, strict=True):
        assert (fold == -1) == (len(different[target]) == 1)
        assert {fold_N[i] for i, row in enumerate(rows) if row == (target, content)} == {fold}
    dealt = {(row, fold) for row, fold in zip(rows, fold_N.tolist(), strict=True) if fold >= 0}
    sizes = [sum(fold == other for _, other in dealt) for fold in range(fold_N.max() + 1)]
    assert max(sizes) - min(sizes) <= 1


UNITS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 8)), min_size=1, max_size=40)


def is_anything_left(rows: list[tuple[int, int, int]], *, spare: bool) -> bool:
    """Whether there are rows that the others can do without."""
    together: list[set[tuple[str, int]]] = []
    for stratum, group, content in rows:
        own = {("group", group), ("content", content), ("stratum of", stratum)}
        links = {name for name in own if name[0] != "stratum of"}
        joined = [other for other in together if other & links]
        together = [other for other in together if other not in joined] + [own.union(*joined)]
    if not spare:
        return len(together) > 1
    homes = [[part for part in together if ("stratum of", stratum) in part] for stratum, _, _ in rows]
    needed = [part[0] for part in homes if len(part) == 1]
    return any(part not in needed for part in together)


@given(UNITS, st.booleans(), st.integers(0, 5))
def test_what_belongs_together_is_held_out_together(rows: list[tuple[int, int, int]], spare: bool, seed: int) -> None:
    strata_N = np.array([stratum for stratum, _, _ in rows])
    units = [(f"group {group}", f"content {content}") for _, group, content in rows]
    numbers_N1 = np.arange(len(rows))[:, None]
    if not is_anything_left(rows, spare=spare):
        with pytest.raises(DatasetInvalid, match="two different examples"):
            assign_folds(numbers_N1, strata_N, units=units, spare=spare, folds=3, seed=seed)
        return
    fold_N = assign_folds(numbers_N1, strata_N, units=units, spare=spare, folds=3, seed=seed)
    for one, (_, group, content) in enumerate(rows):
        for other, (_, another, copy) in enumerate(rows):
            if group == another or content == copy:
                assert fold_N[one] == fold_N[other]
    for fold in range(fold_N.max() + 1):
        assert (fold_N == fold).any()
        assert (fold_N != fold).any()
        if spare:
            assert set(strata_N[fold_N != fold]) == set(strata_N)
    if not spare:
        assert fold_N.min() >= 0


def test_units_that_are_single_rows_change_nothing() -> None:
    features_ND, targets_N = blobs(80)
    units = [[row] for row in range(80)]
    alone = assign_folds(features_ND, targets_N, seed=2)
    np.testing.assert_array_equal(alone, assign_folds(features_ND, targets_N, units=units, seed=2))


@pytest.mark.parametrize(("rows", "folds"), [(HELD_OUT, 5), (5_000, 4), (7_000, 3), (10_000, 2), (50_000, 2)])
def test_of_many_rows_no_more_are_held_out_than_judge_well(rows: int, folds: int) -> None:
    fold_N = assign_folds(np.arange(rows)[:, None], np.arange(rows) % 2, seed=0)
    counts = np.bincount(fold_N + 1, minlength=folds + 1)
    assert len(counts) == folds + 1
    assert counts[1:].sum() >= HELD_OUT
    assert counts[1:].max() == pytest.approx(rows / 5, abs=2)


def test_fits_have_one_thread_each_whichever_library_computes_them() -> None:
    """In a process of its own: a library that is loaded after the limit was set would not have it."""
    code = """
from finetune.probes.folds import fitting_threads
with fitting_threads():
    import numpy, scipy.linalg, scipy.optimize
    from threadpoolctl import threadpool_info
    print([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    threads = done.stdout.strip("[]\n").split(", ")
    assert len(threads) >= 2
    assert set(threads) == {"1"}
