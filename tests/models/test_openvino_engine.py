from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from models.backbone_store import BackboneStore, StoredBackbone
from models.batch import Batch, ImageRow, Row, TextRow, collate
from models.batch_shape import next_size
from models.features import FeatureKind
from models.graph_cache import GraphCache
from models.openvino_engine import OpenVinoEngine
from models.precision import Precision
from models.processor import int8_instructions
from models.sources import fetch_checkpoint
from models.torch_engine import TorchEngine


@pytest.fixture(scope="module", params=["vision", "text"])
def stored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_vision: str, tiny_text: str
) -> StoredBackbone:
    name = tiny_vision if request.param == "vision" else tiny_text
    return BackboneStore(tmp_path_factory.mktemp("backbones")).add(fetch_checkpoint(name))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> GraphCache:
    return GraphCache(tmp_path_factory.mktemp("cache"))


def rows_of(stored: StoredBackbone, count: int, *, seed: int = 0) -> list[Row]:
    random = torch.Generator().manual_seed(seed)
    if stored.config.modality == "image":
        return [
            ImageRow(pixels_CHW=torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=random))
            for _ in range(count)
        ]
    lengths = torch.randint(1, 40, (count,), generator=random).tolist()
    return [TextRow(ids=[2, *range(5, 5 + length), 3], segments=[0] * (length + 2)) for length in lengths]


def engine_of(
    graphs: GraphCache,
    stored: StoredBackbone,
    precision: Precision,
    kind: FeatureKind = FeatureKind.POOLED,
    streams: int = 1,
) -> OpenVinoEngine:
    graph = graphs.graph(stored, precision, kind)
    return OpenVinoEngine(graph, stored.config, precision, kind, streams=streams, threads=2)


def pooled(engine: OpenVinoEngine | TorchEngine, batch: Batch) -> torch.Tensor:
    return engine.features(batch, FeatureKind.POOLED).values


@pytest.mark.parametrize("count", [1, 2, 7, 33])
def test_features_are_those_of_torch_whatever_the_batch(graphs: GraphCache, stored: StoredBackbone, count: int) -> None:
    batch = collate(rows_of(stored, count))
    found_BD = pooled(engine_of(graphs, stored, Precision.FP32), batch)
    assert found_BD.dtype == torch.float32
    torch.testing.assert_close(found_BD, pooled(TorchEngine(stored.load()), batch), atol=1e-4, rtol=1e-3)


def test_eight_bits_are_close(graphs: GraphCache, stored: StoredBackbone) -> None:
    batch = collate(rows_of(stored, 16))
    found_BD, wanted_BD = (
        pooled(engine_of(graphs, stored, Precision.INT8), batch),
        pooled(TorchEngine(stored.load()), batch),
    )
    assert not torch.equal(found_BD, wanted_BD)
    assert torch.nn.functional.cosine_similarity(found_BD, wanted_BD).min() > 0.9


def test_a_row_does_not_depend_on_its_batch_mates(graphs: GraphCache, stored: StoredBackbone) -> None:
    engine, rows = engine_of(graphs, stored, Precision.FP32), rows_of(stored, 8)
    together_BD = pooled(engine, collate(rows))
    alone_BD = torch.cat([pooled(engine, collate([row])) for row in rows])
    torch.testing.assert_close(together_BD, alone_BD, atol=1e-5, rtol=1e-4)


def test_threads_do_not_get_each_others_features(graphs: GraphCache, stored: StoredBackbone) -> None:
    engine = engine_of(graphs, stored, Precision.FP32, streams=2)
    batches = [collate(rows_of(stored, 1 + seed % 3, seed=seed)) for seed in range(40)]
    wanted = [pooled(engine, batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: pooled(engine, batch), batches))
    assert all(torch.equal(f, w) for f, w in zip(found, wanted, strict=True))


def test_features_stay_when_the_next_batch_is_computed(graphs: GraphCache, stored: StoredBackbone) -> None:
    engine = engine_of(graphs, stored, Precision.FP32)
    first = pooled(engine, collate(rows_of(stored, 2)))
    before = first.clone()
    pooled(engine, collate(rows_of(stored, 2, seed=1)))
    assert torch.equal(first, before)


def test_it_says_what_it_is(graphs: GraphCache, stored: StoredBackbone) -> None:
    engine = engine_of(graphs, stored, Precision.INT8, streams=2)
    engine.warm_up()
    assert engine.identity.startswith("openvino-")
    assert f"/cpu/int8/{graphs.graph(stored, Precision.INT8).digest[:12]}/" in engine.identity
    assert engine.identity.endswith(int8_instructions())
    assert engine_of(graphs, stored, Precision.FP32).identity.endswith(graphs.graph(stored, Precision.FP32).digest[:12])
    assert engine.streams == 2


@pytest.mark.parametrize("count", [1, 2, 7])
def test_features_of_tokens_are_those_of_torch(graphs: GraphCache, stored: StoredBackbone, count: int) -> None:
    batch = collate(rows_of(stored, count))
    engine = engine_of(graphs, stored, Precision.FP32, FeatureKind.TOKENS)
    found, wanted = (each.features(batch, FeatureKind.TOKENS) for each in (engine, TorchEngine(stored.load())))
    assert found.mask_BT is not None
    assert wanted.mask_BT is not None
    assert torch.equal(found.mask_BT, wanted.mask_BT)
    torch.testing.assert_close(
        found.values[found.mask_BT.bool()], wanted.values[wanted.mask_BT.bool()], atol=1e-4, rtol=1e-3
    )
    engine.warm_up()


def test_it_gives_the_features_of_its_graph_only(graphs: GraphCache, stored: StoredBackbone) -> None:
    for own, other in (FeatureKind, reversed(FeatureKind)):
        with pytest.raises(ValueError, match=f"of kind {own}, not {other}"):
            engine_of(graphs, stored, Precision.FP32, own).features(collate(rows_of(stored, 1)), other)


def test_nothing_is_reported_to_anybody(graphs: GraphCache, stored: StoredBackbone) -> None:
    engine_of(graphs, stored, Precision.INT8)
    assert sys.modules["openvino_telemetry"] is None


def of_lengths(*lengths: int) -> Batch:
    return collate([TextRow(ids=[7] * length, segments=[0] * length) for length in lengths])


@pytest.mark.parametrize("stored", ["text"], indirect=True)
def test_texts_of_any_lengths_are_few_shapes_to_the_graph(graphs: GraphCache, stored: StoredBackbone) -> None:
    engine, exact = engine_of(graphs, stored, Precision.FP32), TorchEngine(stored.load())
    most = stored.config.max_tokens
    assert most is not None
    shapes = set()
    for rows, length in itertools.product(range(1, 18, 4), range(1, most + 1, 3)):
        batch = of_lengths(*[max(1, length - row) for row in range(rows)])
        shapes |= {array.shape for array in engine._inputs(batch)}
        torch.testing.assert_close(pooled(engine, batch), pooled(exact, batch), atol=1e-4, rtol=1e-3)
    assert {rows for rows, _ in shapes} == {1, 5, 10, 14, 20}
    assert {length for _, length in shapes} <= {next_size(length, most) for length in range(1, most + 1)}


@pytest.mark.parametrize("kind", FeatureKind)
@pytest.mark.parametrize("stored", ["text"], indirect=True)
def test_the_longest_text_has_no_token_without_a_position(
    graphs: GraphCache, stored: StoredBackbone, kind: FeatureKind
) -> None:
    most = stored.config.max_tokens
    assert most is not None
    batch = of_lengths(most - 1, 3)
    found = engine_of(graphs, stored, Precision.FP32, kind).features(batch, kind)
    expected = TorchEngine(stored.load()).features(batch, kind)
    assert found.values.shape == expected.values.shape
    mask = 1.0 if found.mask_BT is None else found.mask_BT.unsqueeze(2)
    torch.testing.assert_close(found.values * mask, expected.values * mask, atol=1e-4, rtol=1e-3)
