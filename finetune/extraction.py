"""Frozen features of a data set, through the engine that will serve them, bit for bit the same on every run.

What an engine computes for a row depends, in its last bits, on the batch around it. So batches are cut by content: the
digests of a data set, sorted, are cut into chunks at digests that end in a zero. A chunk is one batch and one cache
entry. Another order of the files changes no chunk, one more photo changes one (or the few up to the next such digest),
and a feature from the cache has the bits of a fresh one.

A pair of texts is one item, also where its two texts are two rows of the engine. Of a text whose words are to be told
apart, each word that has a token gives a vector.

Shapes: N items, V vectors (N, but for words), D dimensions of a vector.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from finetune.feature_cache import FeatureCache
from models.batch import Row, TextRow, shape_bucket
from models.engine import Engine
from models.errors import DatasetInvalid, GraftworkError, InputError
from models.features import FeatureKind
from models.head_inputs import head_inputs
from models.preprocessor import Preprocessor, RawItem

CHUNKS_AHEAD = 4  # decoded while the engine is busy; bounds what waits in memory
TEXTS_AT_ONCE = 64  # handing one text from thread to thread takes longer than to tokenise it


class Item(Protocol):
    """What extraction needs of an example: the sha256 (hex) of its content, its name for messages, its content."""

    @property
    def digest(self) -> str: ...
    @property
    def source(self) -> str: ...
    def read(self) -> RawItem: ...


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Features and how they came about.

    Attributes:
        features_VD: in the order of the items, fp32.
        words: for each item which of its words have a vector, in their order; None where an item has one vector.
        truncated: how many items are texts that were cut to what the backbone reads.
        computed: how many distinct contents went through the engine; the others were cached.
        cache_error: why features could not be stored, in the words of the operating system; None when all were.
    """

    features_VD: npt.NDArray[np.float32]
    words: Sequence[Sequence[int]] | None
    truncated: int
    computed: int
    cache_error: str | None


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A batch of fixed composition: contents in order of their digests."""

    digests: tuple[str, ...]

    @property
    def key(self) -> str:
        return hashlib.sha256("\n".join(self.digests).encode()).hexdigest()


def cut_chunks(digests: Iterable[str], batch_size: int) -> list[Chunk]:
    """Cuts digests into chunks by their own content.

    Args:
        digests: distinct, in any order.
        batch_size: rows of a chunk at most; about one digest in 16 ends a chunk earlier.
    """
    chunks: list[Chunk] = []
    waiting: list[str] = []
    for digest in sorted(digests):
        waiting.append(digest)
        if digest.endswith("0") or len(waiting) == batch_size:
            chunks.append(Chunk(digests=tuple(waiting)))
            waiting = []
    if waiting:
        chunks.append(Chunk(digests=tuple(waiting)))
    return chunks


def extract_features(
    items: Sequence[Item],
    *,
    preprocessor: Preprocessor,
    engine: Engine,
    identity: str,
    cache: FeatureCache | None,
    kind: FeatureKind = FeatureKind.POOLED,
    batch_size: int = 32,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """The vectors that a head reads of every item.

    Items of equal digest are computed once. Images whose chunk is cached are not decoded; texts are always
    tokenised, because only texts of similar length share a batch.

    Args:
        items: at least one; all texts or all images.
        preprocessor: the one that will serve; texts that are too long are cut at the end.
        engine: the one that will serve; as many threads ask it as it computes batches at a time.
        identity: what else a feature depends on: digest of the backbone, identity of the engine, configuration of the
            preprocessor.
        cache: None computes everything.
        kind: of the features that the engine and the preprocessor were made for.
        batch_size: rows at most that the engine sees at once; part of what makes runs bit-equal.
        threads: that read and decode beside the engine.
        progress: called with how many distinct contents are done, and how many there are.

    Raises:
        DatasetInvalid: an item cannot be read or decoded; the message names it.
        GraftworkError: the backbone gives numbers that are not finite.
    """
    # A CPU's vector width and torch's split of the work also decide the last bits.
    work = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, {engine.streams} at a time"
    identity = "\n".join([identity, kind, work])
    by_word = kind is FeatureKind.TOKENS
    contents: dict[str, Item] = {}
    for item in items:
        contents.setdefault(item.digest, item)

    def prepare(item: Item) -> Row:
        try:
            return preprocessor.prepare(item.read(), truncate=True)
        except InputError as error:
            raise DatasetInvalid(error.message, file=item.source) from error

    vectors: dict[str, npt.NDArray[np.float32]] = {}  # (V, D) each

    def finish(chunk: Chunk, features_VD: npt.NDArray[np.float32]) -> None:
        ends = np.cumsum([count(digest) for digest in chunk.digests])
        vectors.update(zip(chunk.digests, np.split(features_VD, ends[:-1]), strict=True))
        if progress is not None:
            progress(len(vectors), len(contents))

    pool, device = ThreadPoolExecutor(max_workers=threads), ThreadPoolExecutor(max_workers=engine.streams)
    try:
        texts: dict[str, Row] = {}
        if not isinstance(items[0].read(), bytes):
            every = list(contents.values())
            groups = [every[start : start + TEXTS_AT_ONCE] for start in range(0, len(every), TEXTS_AT_ONCE)]
            prepared = pool.map(lambda group: [prepare(item) for item in group], groups)
            texts.update(zip(contents, chain.from_iterable(prepared), strict=True))
        words = {digest: _words_with_a_token(row) for digest, row in texts.items()} if by_word else {}

        def count(digest: str) -> int:
            return len(words[digest]) if by_word else 1

        missing: list[Chunk] = []
        for chunk in _chunks(contents, texts, batch_size):
            stored_VD = None if cache is None else cache.read(identity, chunk.key, rows=sum(map(count, chunk.digests)))
            if stored_VD is None:
                missing.append(chunk)
            else:
                finish(chunk, stored_VD)
        cache_error: str | None = None

        def compute(rows: Sequence[Row]) -> npt.NDArray[np.float32]:
            (inputs,) = head_inputs(engine.features(preprocessor.collate(rows), kind), rows)
            values: npt.NDArray[np.float32] = inputs.vectors_VD.numpy()
            return values

        rows_ahead = (
            ((chunk, [texts[digest] for digest in chunk.digests]) for chunk in missing)
            if texts
            else _rows_ahead(missing, lambda digest: prepare(contents[digest]), pool)
        )
        for chunk, features_VD in _computed(rows_ahead, compute, device, engine.streams):
            if not np.isfinite(features_VD).all():
                owners = [digest for digest in chunk.digests for _ in range(count(digest))]
                source = contents[owners[int(np.isfinite(features_VD).all(axis=1).argmin())]].source
                raise GraftworkError(f"the backbone gives features that are not finite for {source}; use another one")
            if cache is not None and cache_error is None:
                cache_error = _store(cache, identity, chunk, features_VD)
            finish(chunk, features_VD)
    finally:
        pool.shutdown(cancel_futures=True)
        device.shutdown(cancel_futures=True)
    cut = {digest for digest, row in texts.items() if row.truncated}
    return Extraction(
        features_VD=np.concatenate([vectors[item.digest] for item in items]),
        words=[words[item.digest] for item in items] if by_word else None,
        truncated=sum(item.digest in cut for item in items),
        computed=sum(len(chunk.digests) for chunk in missing),
        cache_error=cache_error,
    )


def _words_with_a_token(row: Row) -> Sequence[int]:
    assert isinstance(row, TextRow)
    assert row.words is not None
    return row.words.read


def _chunks(contents: Iterable[str], texts: Mapping[str, Row], batch_size: int) -> list[Chunk]:
    """Chunks of rows that can share a batch; images of one preprocessor all can."""
    buckets: dict[tuple[int, ...], list[str]] = {}
    for digest in contents:
        buckets.setdefault(shape_bucket(texts[digest]) if digest in texts else (), []).append(digest)
    return [chunk for bucket in sorted(buckets) for chunk in cut_chunks(buckets[bucket], batch_size)]


def _rows_ahead(
    chunks: Iterable[Chunk], row_of: Callable[[str], Row], pool: ThreadPoolExecutor
) -> Iterator[tuple[Chunk, list[Row]]]:
    """The rows of each chunk, while the pool is at work on those of the next ones."""
    waiting: deque[tuple[Chunk, list[Future[Row]]]] = deque()
    for chunk in chunks:
        waiting.append((chunk, [pool.submit(row_of, digest) for digest in chunk.digests]))
        if len(waiting) > CHUNKS_AHEAD:
            first, rows = waiting.popleft()
            yield first, [row.result() for row in rows]
    for first, rows in waiting:
        yield first, [row.result() for row in rows]


def _computed(
    rows_ahead: Iterable[tuple[Chunk, list[Row]]],
    compute: Callable[[Sequence[Row]], npt.NDArray[np.float32]],
    device: ThreadPoolExecutor,
    streams: int,
) -> Iterator[tuple[Chunk, npt.NDArray[np.float32]]]:
    """The features of each chunk, in the order of the chunks; while one is looked at, the next ones are computed."""
    waiting: deque[tuple[Chunk, Future[npt.NDArray[np.float32]]]] = deque()
    for chunk, rows in rows_ahead:
        waiting.append((chunk, device.submit(compute, rows)))
        if len(waiting) >= streams:
            first, features_VD = waiting.popleft()
            yield first, features_VD.result()
    for first, features_VD in waiting:
        yield first, features_VD.result()


def _store(cache: FeatureCache, identity: str, chunk: Chunk, features_VD: npt.NDArray[np.float32]) -> str | None:
    try:
        cache.write(identity, chunk.key, features_VD)
    except OSError as error:
        return error.strerror or str(error)
    return None
