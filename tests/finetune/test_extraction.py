"""What features are, of every kind of item, and which items are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finetune.extraction import CHUNKS_AHEAD
from finetune.feature_cache import FeatureCache
from models.backbone_store import BackboneStore
from models.batch import Batch, TextBatch
from models.errors import DatasetInvalid, GraftworkError
from models.features import FeatureKind, Features
from models.preprocessor import PairReading, build_preprocessor
from models.sources import fetch_checkpoint
from tests.finetune.extractor import Content, Counting, Extractor, PairContent, images, texts


def test_features_are_the_engine_s_in_the_order_of_the_items(vision: Extractor, text: Extractor) -> None:
    for extract, items in ((vision, images(12)), (text, texts(50))):
        features_VD = extract(items).features_VD
        assert features_VD.dtype == np.float32
        for item, features_D in zip(items, features_VD, strict=True):
            batch = extract.preprocessor.collate([extract.preprocessor.prepare(item.content, truncate=True)])
            alone_D = extract.engine.features(batch, FeatureKind.POOLED).values[0].numpy()
            np.testing.assert_allclose(features_D, alone_D, rtol=1e-3, atol=1e-6)


def test_the_order_of_the_items_changes_no_feature(text: Extractor) -> None:
    items = texts(40)
    forward, backward = text(items).features_VD, text(items[::-1]).features_VD
    assert backward[::-1].tobytes() == forward.tobytes()


def test_copies_are_computed_once(vision: Extractor) -> None:
    items = images(6)
    extraction = vision([*items, *items[::-1]])
    assert sum(vision.engine.sizes) == extraction.computed == 6
    assert extraction.features_VD[6:][::-1].tobytes() == extraction.features_VD[:6].tobytes()


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
