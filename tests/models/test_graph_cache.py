from __future__ import annotations

from pathlib import Path

import pytest

from models.backbone_store import BackboneStore, StoredBackbone
from models.features import FeatureKind
from models.graph_cache import GraphCache
from models.openvino_engine import OpenVinoEngine
from models.precision import Precision
from models.sources import fetch_checkpoint


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, tiny_vision: str) -> StoredBackbone:
    return BackboneStore(tmp_path_factory.mktemp("backbones")).add(fetch_checkpoint(tiny_vision))


def test_a_graph_is_made_once(tmp_path: Path, stored: StoredBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    first = GraphCache(tmp_path).graph(stored, Precision.FP32)
    assert stored.digest in first.file.parts
    monkeypatch.setattr("models.graph_cache._build", lambda *_: pytest.fail("it is there already"))
    again = GraphCache(tmp_path)
    assert again.graph(stored, Precision.FP32) == first
    assert again.graph(stored, Precision.FP32) == first


def test_a_graph_that_could_not_be_finished_is_not_there(
    tmp_path: Path, stored: StoredBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(stored: StoredBackbone, precision: Precision, kind: FeatureKind, file: Path) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("models.graph_cache._build", break_off)
    with pytest.raises(KeyboardInterrupt):
        GraphCache(tmp_path).graph(stored, Precision.FP32)
    assert not list(tmp_path.rglob("graph.xml"))


@pytest.mark.parametrize("damaged", ["graph.bin", "graph.xml", "graph.sha256"])
@pytest.mark.parametrize("how", ["cut", "zeros", "gone"])
def test_a_graph_that_a_power_cut_damaged_is_made_again(
    tmp_path: Path, stored: StoredBackbone, damaged: str, how: str
) -> None:
    first = GraphCache(tmp_path).graph(stored, Precision.FP32)
    file = first.file.with_name(damaged)
    data = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(data[: len(data) // 2] if how == "cut" else bytes(len(data)))
    again = GraphCache(tmp_path).graph(stored, Precision.FP32)
    assert again.file == first.file
    OpenVinoEngine(again, stored.config, Precision.FP32, streams=1, threads=1).warm_up()


def test_a_graph_that_is_deleted_while_a_process_runs_is_made_again(tmp_path: Path, stored: StoredBackbone) -> None:
    cache = GraphCache(tmp_path)
    cache.graph(stored, Precision.FP32).file.unlink()
    assert cache.graph(stored, Precision.FP32).file.exists()
