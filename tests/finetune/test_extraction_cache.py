"""Features from the cache have the bits of fresh ones, and few are computed anew."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune.extraction import cut_chunks, extract_features
from finetune.feature_cache import FeatureCache
from tests.finetune.extractor import Extractor, images, texts


def test_features_have_the_same_bits_whatever_the_cache_holds(
    vision: Extractor, text: Extractor, tmp_path: Path
) -> None:
    for extract, items in ((vision, images(40)), (text, texts(60))):
        without = extract(items).features_VD
        cache = FeatureCache(tmp_path / "cache")
        cold = extract(items, cache)
        warm = extract(items, cache)
        for number, file in enumerate(sorted((tmp_path / "cache").rglob("*.safetensors"))):
            if number % 3 == 0:
                file.unlink()
            elif number % 3 == 1:
                file.write_bytes(file.read_bytes()[:-1])
        patched = extract(items, cache)
        assert {x.features_VD.tobytes() for x in (cold, warm, patched)} == {without.tobytes()}
        assert cold.computed == len(items)
        assert warm.computed == 0
        assert 0 < patched.computed < len(items)
        assert extract(items, cache).computed == 0
        shutil.rmtree(tmp_path / "cache")


def test_one_more_image_computes_little_more(vision: Extractor, tmp_path: Path) -> None:
    items, cache = images(101), FeatureCache(tmp_path / "cache")
    vision(items[:100], cache, batch_size=32)
    assert 0 < vision(items, cache, batch_size=32).computed <= 32


def test_images_of_cached_features_are_not_decoded(vision: Extractor, tmp_path: Path) -> None:
    reads: list[str] = []
    items, cache = images(20, reads), FeatureCache(tmp_path / "cache")
    vision(items, cache)
    reads.clear()
    vision(items, cache)
    assert reads == ["0.png"]


def test_a_cache_that_cannot_be_written_fails_no_job(vision: Extractor, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a directory should be")
    items = images(5)
    extraction = vision(items, FeatureCache(tmp_path / "cache"))
    assert extraction.features_VD.tobytes() == vision(items).features_VD.tobytes()
    assert extraction.cache_error == "Not a directory"
    assert vision(items).cache_error is None


def test_features_of_another_number_of_torch_threads_are_not_taken_from_the_cache(
    vision: Extractor, tmp_path: Path
) -> None:
    items, cache, threads = images(3), FeatureCache(tmp_path / "cache"), torch.get_num_threads()
    vision(items, cache)
    try:
        torch.set_num_threads(threads + 1)
        assert vision(items, cache).computed == 3
    finally:
        torch.set_num_threads(threads)


def test_progress_counts_distinct_contents(vision: Extractor, tmp_path: Path) -> None:
    items, cache = images(10), FeatureCache(tmp_path / "cache")
    for _ in range(2):
        reports: list[tuple[int, int]] = []
        extract_features(
            [*items, items[0]],
            preprocessor=vision.preprocessor,
            engine=vision.engine,
            identity="",
            cache=cache,
            batch_size=4,
            threads=1,
            progress=lambda done, total, reports=reports: reports.append((done, total)),  # type: ignore[misc]
        )
        assert reports == sorted(reports)
        assert reports[-1] == (10, 10)


digests = st.sets(st.integers(0, 2**32).map(lambda n: hashlib.sha256(str(n).encode()).hexdigest()), max_size=150)


@given(digests, st.integers(1, 40))
def test_chunks_hold_every_digest_once_in_order(known: set[str], batch_size: int) -> None:
    chunks = cut_chunks(known, batch_size)
    assert [digest for chunk in chunks for digest in chunk.digests] == sorted(known)
    assert all(1 <= len(chunk.digests) <= batch_size for chunk in chunks)


@given(digests, st.integers(0, 2**32))
def test_one_more_digest_changes_no_chunk_beyond_the_next_mark(known: set[str], number: int) -> None:
    new = hashlib.sha256(f"new {number}".encode()).hexdigest()
    marks = sorted(digest for digest in known if digest.endswith("0"))
    low = max((mark for mark in marks if mark < new), default="")
    high = min((mark for mark in marks if mark > new), default="g")
    before, after = ({chunk.key: chunk for chunk in cut_chunks(k, 8)} for k in (known, known | {new}))
    for key in before.keys() ^ after.keys():
        chunk = before.get(key) or after[key]
        assert all(low < digest <= high for digest in chunk.digests)
