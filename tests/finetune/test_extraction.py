from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from finetune.extraction import CHUNKS_AHEAD, Extraction, cut_chunks, extract_features
from finetune.feature_cache import FeatureCache
from models.backbone_store import BackboneStore, build_backbone
from models.batch import Batch, ImageBatch, TextBatch
from models.errors import DatasetInvalid, GraftworkError
from models.features import FeatureKind, Features
from models.preprocessor import PairReading, Preprocessor, build_preprocessor
from models.sources import fetch_checkpoint
from models.torch_engine import TorchEngine


@dataclass(frozen=True, kw_only=True)
class Content:
    """An item in memory that notes when it is read."""

    source: str
    content: bytes | str
    reads: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        data = self.content if isinstance(self.content, bytes) else self.content.encode()
        return hashlib.sha256(data).hexdigest()

    def read(self) -> bytes | str:
        self.reads.append(self.source)
        return self.content


@dataclass(frozen=True, kw_only=True)
class PairContent:
    """Two texts in memory."""

    source: str
    pair: tuple[str, str]

    @property
    def digest(self) -> str:
        return hashlib.sha256("|".join(self.pair).encode()).hexdigest()

    def read(self) -> tuple[str, str]:
        return self.pair


@dataclass(kw_only=True)
class Counting:
    """An engine that notes the sizes of its batches."""

    engine: TorchEngine
    identity: str = "counting"
    streams: int = 1
    sizes: list[int] = field(default_factory=list)

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        self.sizes.append(len(batch.pixels_BCHW if isinstance(batch, ImageBatch) else batch.ids_BT))
        return self.engine.features(batch, kind)

    def warm_up(self) -> None:
        self.engine.warm_up()


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A tiny real backbone with its preprocessor."""

    preprocessor: Preprocessor
    engine: Counting
    kind: FeatureKind = FeatureKind.POOLED

    def __call__(self, items: Sequence[Content], cache: FeatureCache | None = None, batch_size: int = 8) -> Extraction:
        return extract_features(
            items,
            preprocessor=self.preprocessor,
            engine=self.engine,
            identity=self.engine.identity,
            cache=cache,
            batch_size=batch_size,
            kind=self.kind,
            threads=2,
        )


def extractor(name: str, root: Path) -> Extractor:
    checkpoint = fetch_checkpoint(name)
    stored = BackboneStore(root).add(checkpoint)
    backbone = build_backbone(checkpoint.config, checkpoint.state)
    return Extractor(
        preprocessor=build_preprocessor(checkpoint.preprocessor, stored.directory),
        engine=Counting(engine=TorchEngine(backbone)),
    )


@pytest.fixture
def vision(tiny_vision: str, tmp_path: Path) -> Extractor:
    return extractor(tiny_vision, tmp_path / "backbones")


@pytest.fixture
def text(tiny_text: str, tmp_path: Path) -> Extractor:
    return extractor(tiny_text, tmp_path / "backbones")


def images(count: int, reads: list[str] | None = None) -> list[Content]:
    items = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).resize((70, 64)).save(data, "PNG")
        items.append(Content(source=f"{number}.png", content=data.getvalue(), reads=[] if reads is None else reads))
    return items


def texts(count: int) -> list[Content]:
    """Texts of 1 to 40 words, so that there are several buckets of lengths."""
    return [Content(source=f"data.csv:{n + 2}", content=" ".join([f"{n}"] * (n % 40 + 1))) for n in range(count)]


def test_features_are_the_engine_s_in_the_order_of_the_items(vision: Extractor, text: Extractor) -> None:
    for extract, items in ((vision, images(12)), (text, texts(50))):
        features_VD = extract(items).features_VD
        assert features_VD.dtype == np.float32
        for item, features_D in zip(items, features_VD, strict=True):
            batch = extract.preprocessor.collate([extract.preprocessor.prepare(item.content, truncate=True)])
            alone_D = extract.engine.features(batch, FeatureKind.POOLED).values[0].numpy()
            np.testing.assert_allclose(features_D, alone_D, rtol=1e-3, atol=1e-6)


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


def test_the_order_of_the_items_changes_no_feature(text: Extractor) -> None:
    items = texts(40)
    forward, backward = text(items).features_VD, text(items[::-1]).features_VD
    assert backward[::-1].tobytes() == forward.tobytes()


def test_copies_are_computed_once(vision: Extractor) -> None:
    items = images(6)
    extraction = vision([*items, *items[::-1]])
    assert sum(vision.engine.sizes) == extraction.computed == 6
    assert extraction.features_VD[6:][::-1].tobytes() == extraction.features_VD[:6].tobytes()


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


def test_few_rows_wait_while_the_engine_works(vision: Extractor) -> None:
    reads: list[str] = []
    items = images(80, reads)
    ahead: list[int] = []

    class Slow(Counting):
        def features(self, batch: Batch, kind: FeatureKind) -> Features:
            ahead.append(len(reads) - 1 - sum(self.sizes))  # the first item is read once more, to know what it is
            return super().features(batch, kind)

    slow = Extractor(preprocessor=vision.preprocessor, engine=Slow(engine=vision.engine.engine))
    slow(items, batch_size=4)
    assert max(ahead) <= (CHUNKS_AHEAD + 1) * 4
    assert min(ahead) >= 1


def test_texts_share_a_batch_with_texts_of_like_length(text: Extractor) -> None:
    lengths: list[tuple[int, int]] = []

    class Noting(Counting):
        def features(self, batch: Batch, kind: FeatureKind) -> Features:
            assert isinstance(batch, TextBatch)
            counts = batch.mask_BT.sum(dim=1)
            lengths.append((int(counts.min()), int(counts.max())))
            assert batch.mask_BT.shape[1] == counts.max()
            return super().features(batch, kind)

    Extractor(preprocessor=text.preprocessor, engine=Noting(engine=text.engine.engine))(texts(80))
    assert len(lengths) > 4
    assert all(longest - shortest < 16 for shortest, longest in lengths)


def test_texts_that_are_too_long_are_cut_and_counted(text: Extractor) -> None:
    long = Content(source="data.csv:9", content="a " * 100)
    extraction = text([*texts(5), long, long])
    assert extraction.truncated == 2
    kept = Content(source="data.csv:10", content="a " * 62)  # 64 tokens with the two special ones
    np.testing.assert_allclose(extraction.features_VD[5], text([kept]).features_VD[0], atol=1e-5)
    assert text([kept]).truncated == 0


@pytest.mark.parametrize("warm", [False, True])
def test_a_damaged_image_is_named(vision: Extractor, tmp_path: Path, *, warm: bool) -> None:
    cache = FeatureCache(tmp_path / "cache")
    items = images(20)
    if warm:
        vision(items, cache)
    items.append(Content(source="cats/broken.png", content=images(1)[0].content[:60]))
    with pytest.raises(DatasetInvalid, match=r"^cats/broken\.png: .*ends too early"):
        vision(items, cache)


def test_an_empty_text_is_named(text: Extractor) -> None:
    with pytest.raises(DatasetInvalid, match=r"^data\.csv:7: the text is empty"):
        text([*texts(5), Content(source="data.csv:7", content=" ")])


def test_a_cache_that_cannot_be_written_fails_no_job(vision: Extractor, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a directory should be")
    items = images(5)
    extraction = vision(items, FeatureCache(tmp_path / "cache"))
    assert extraction.features_VD.tobytes() == vision(items).features_VD.tobytes()
    assert extraction.cache_error == "Not a directory"
    assert vision(items).cache_error is None


def test_features_that_are_not_finite_are_refused(vision: Extractor) -> None:
    class Overflowing(Counting):
        def features(self, batch: Batch, kind: FeatureKind) -> Features:
            values_BD = super().features(batch, kind).values.clone()
            values_BD[1, 3] = float("inf")
            return Features(kind=kind, values=values_BD)

    items = images(2)
    second = max(items, key=lambda item: item.digest)
    broken = Extractor(preprocessor=vision.preprocessor, engine=Overflowing(engine=vision.engine.engine))
    with pytest.raises(GraftworkError, match=f"not finite for {second.source}"):
        broken(items)


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


def of_kind(text: Extractor, tiny_text: str, root: Path, kind: FeatureKind, pair: PairReading | None) -> Extractor:
    checkpoint = fetch_checkpoint(tiny_text)
    config = checkpoint.preprocessor.model_copy(update={"pair": pair})
    preprocessor = build_preprocessor(config, BackboneStore(root).add(checkpoint).directory, kind)
    return Extractor(preprocessor=preprocessor, engine=text.engine, kind=kind)


def test_words_have_a_vector_each_with_the_same_bits_whatever_the_cache_holds(
    text: Extractor, tiny_text: str, tmp_path: Path
) -> None:
    extract = of_kind(text, tiny_text, tmp_path / "words", FeatureKind.TOKENS, None)
    items = [*texts(30), Content(source="data.csv:60", content="a \u200b b " + "c " * 100)]
    extraction = extract(items)
    assert extraction.words is not None
    assert [len(words) for words in extraction.words[:30]] == [n + 1 for n in range(30)]
    assert list(extraction.words[30])[:3] == [0, 2, 3]  # nothing is left of the second one; and the end was cut off
    assert len(extraction.words[30]) < 102
    assert extraction.truncated == 1
    assert len(extraction.features_VD) == sum(map(len, extraction.words))
    starts = np.cumsum([0, *map(len, extraction.words)])
    for number in (0, 7, 29):
        alone = extract([items[number]]).features_VD
        np.testing.assert_allclose(extraction.features_VD[starts[number] : starts[number + 1]], alone, atol=1e-5)
    cache = FeatureCache(tmp_path / "cache")
    cold, warm = extract(items, cache), extract(items, cache)
    assert cold.features_VD.tobytes() == warm.features_VD.tobytes() == extraction.features_VD.tobytes()
    assert (warm.computed, warm.words) == (0, cold.words)


def test_a_pair_has_one_vector_however_it_is_read(text: Extractor, tiny_text: str, tmp_path: Path) -> None:
    items = [PairContent(source=f"{n}", pair=(f"one {n}", f"another {n * 7}")) for n in range(20)]
    width = {}
    for pair in ("joint", "separate"):
        extract = of_kind(text, tiny_text, tmp_path / pair, FeatureKind.POOLED, pair)  # type: ignore[arg-type]
        extraction = extract(items)  # type: ignore[arg-type]
        assert extraction.words is None
        assert len(extraction.features_VD) == 20
        width[pair] = extraction.features_VD.shape[1]
    assert width["separate"] == 4 * width["joint"]


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
