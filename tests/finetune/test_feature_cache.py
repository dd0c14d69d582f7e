from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.feature_cache import FeatureCache

FEATURES = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureCache, Path]:
    """A cache with one entry, ``abc`` of ``torch``, and that entry's file."""
    directory = tmp_path_factory.mktemp("cache")
    cache = FeatureCache(directory)
    cache.write("torch", "abc", FEATURES)
    (file,) = directory.rglob("*.safetensors")
    return cache, file


def test_an_entry_comes_back_bit_for_bit(entry: tuple[FeatureCache, Path]) -> None:
    found = entry[0].read("torch", "abc", rows=3)
    assert found is not None
    assert found.tobytes() == FEATURES.tobytes()
    assert found.dtype == np.float32


def test_entries_lie_below_features_by_identity_and_key(entry: tuple[FeatureCache, Path]) -> None:
    kind, identity, prefix, name = entry[1].parts[-4:]
    assert (kind, len(identity), prefix, name) == ("features", 64, "ab", "abc.safetensors")


@pytest.mark.parametrize(("identity", "key"), [("onnx", "abc"), ("torch", "abd")])
def test_another_identity_or_key_has_no_entry(entry: tuple[FeatureCache, Path], identity: str, key: str) -> None:
    assert entry[0].read(identity, key, rows=3) is None


def test_an_entry_with_other_rows_is_none(entry: tuple[FeatureCache, Path]) -> None:
    assert entry[0].read("torch", "abc", rows=4) is None


@given(st.data())
@settings(max_examples=200)
def test_a_damaged_entry_is_none_or_still_right(entry: tuple[FeatureCache, Path], data: st.DataObject) -> None:
    cache, file = entry
    whole = file.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        file.write_bytes(damaged)
        found = cache.read("torch", "abc", rows=3)
        assert found is None or found.tobytes() == FEATURES.tobytes()
        file.write_bytes(whole[:position])
        assert cache.read("torch", "abc", rows=3) is None
    finally:
        file.write_bytes(whole)


def test_a_damaged_entry_can_be_written_again(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.write("torch", "abc", FEATURES)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(b"nonsense")
    cache.write("torch", "abc", FEATURES)
    assert cache.read("torch", "abc", rows=3) is not None


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache = FeatureCache(tmp_path)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        cache.write("torch", "abc", FEATURES)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_features_that_are_a_view_are_stored_as_they_look(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.write("torch", "abc", FEATURES.T)
    found = cache.read("torch", "abc", rows=4)
    assert found is not None
    np.testing.assert_array_equal(found, FEATURES.T)
