"""What is loaded, what it shares, and what is refused."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch

from models.backbone_store import StoredBackbone
from models.engine import Engine
from models.errors import BackboneNotFound, VersionCorrupt, VersionNotFound
from models.repository import ModelRepository
from service.worker.registry import Registry
from tests.tiny_models import LETTERS, TASK_MODELS, TorchEngines, publish_texts, torch_engine


class Engines:
    """Builds real engines, and remembers them without keeping them."""

    def __init__(self) -> None:
        self.built: list[weakref.ref[Engine]] = []

    def __call__(self, stored: StoredBackbone) -> Engine:
        engine = torch_engine(stored)
        self.built.append(weakref.ref(engine))
        return engine

    @property
    def alive(self) -> int:
        return sum(engine() is not None for engine in self.built)


@pytest.fixture
def engines() -> Engines:
    return Engines()


@pytest.fixture
def registry(texts_on_disk: ModelRepository, engines: Engines) -> Registry:
    return Registry(texts_on_disk, TorchEngines(engines))


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_versions_on_one_backbone_share_an_engine_and_a_preprocessor(registry: Registry, engines: Engines) -> None:
    letters, moods = registry.load("letters", 1), registry.load("moods", 1)
    assert len(engines.built) == 1
    assert letters.predictor.engine is moods.predictor.engine
    assert letters.predictor.preprocessor is moods.predictor.preprocessor
    assert letters.backbone == moods.backbone
    assert not torch.equal(letters.predictor.head.weight_CD[:2], moods.predictor.head.weight_CD)


def test_a_loaded_version_can_be_looked_up(registry: Registry) -> None:
    assert registry.load("letters", 1) is registry.get("letters", 1)
    assert registry.get("letters", 1).predictor.labels == LETTERS


def test_what_is_not_loaded_is_not_found(registry: Registry) -> None:
    for name, number in [("letters", 1), ("letters", 2), ("unheard-of", 1)]:
        with pytest.raises(VersionNotFound):
            registry.get(name, number)


def test_a_version_that_is_not_on_disk_cannot_be_loaded(registry: Registry) -> None:
    with pytest.raises(VersionNotFound):
        registry.load("letters", 7)


def test_unloading_the_last_version_of_a_backbone_frees_it(registry: Registry, engines: Engines) -> None:
    registry.load("letters", 1)
    registry.load("moods", 1)
    registry.unload("letters", 1)
    with pytest.raises(VersionNotFound):
        registry.get("letters", 1)
    assert engines.alive == 1
    registry.unload("moods", 1)
    assert engines.alive == 0


def test_whoever_holds_an_unloaded_version_can_still_use_it(registry: Registry) -> None:
    held = registry.load("letters", 1)
    before = held.predictor.predict(["abc"])
    registry.unload("letters", 1)
    assert torch.equal(held.predictor.predict(["abc"]), before)


def test_unloading_what_was_never_loaded_is_nothing(registry: Registry) -> None:
    registry.unload("letters", 1)


def test_a_damaged_version_is_refused_and_the_old_one_stays(
    registry: Registry, texts_on_disk: ModelRepository, tiny_text: str
) -> None:
    old = registry.load("letters", 1)
    published = publish_texts(texts_on_disk, tiny_text, "letters", LETTERS, seed=5)
    for name in published.manifest.files:
        file = published.directory / name
        intact = file.read_bytes()
        file.write_bytes(flipped(intact))
        with pytest.raises(VersionCorrupt, match=name):
            registry.load("letters", 2)
        assert registry.get("letters", 1) is old
        with pytest.raises(VersionNotFound):
            registry.get("letters", 2)
        file.write_bytes(intact)
    assert registry.load("letters", 2) is not old


def test_an_extra_file_is_refused(registry: Registry, texts_on_disk: ModelRepository) -> None:
    (texts_on_disk.root / "letters" / "1" / "extra.pkl").write_bytes(b"")
    with pytest.raises(VersionCorrupt, match=r"extra\.pkl"):
        registry.load("letters", 1)


def test_a_damaged_backbone_is_refused_and_not_kept(
    registry: Registry, texts_on_disk: ModelRepository, engines: Engines
) -> None:
    (weights,) = texts_on_disk.root.glob(".backbones/*/model.safetensors")
    weights.write_bytes(flipped(weights.read_bytes()))
    with pytest.raises(VersionCorrupt, match="damaged"):
        registry.load("letters", 1)
    assert not engines.built


def test_a_missing_backbone_is_refused(registry: Registry, texts_on_disk: ModelRepository, tmp_path: Path) -> None:
    (texts_on_disk.root / ".backbones").rename(tmp_path / "elsewhere")
    with pytest.raises(BackboneNotFound):
        registry.load("letters", 1)


def test_unload_also_frees_what_a_failed_load_left_behind(
    registry: Registry, texts_on_disk: ModelRepository, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise VersionCorrupt("golden")

    monkeypatch.setattr("service.worker.registry.GoldenSet.check", refuse)
    with pytest.raises(VersionCorrupt):
        registry.load("letters", 1)
    registry.unload("letters", 1)
    assert engines.alive == 0


def test_every_task_is_loaded_on_two_engines(tasks_on_disk: Path, engines: Engines) -> None:
    """One for pooled features, and one for those of tokens."""
    tasks = Registry(ModelRepository(tasks_on_disk), TorchEngines(engines))
    loaded = {name: tasks.load(name, 1) for name in ("letters", *TASK_MODELS)}
    assert len(engines.built) == 2
    assert {loaded[name].predictor.engine for name in loaded if name != "names"} == {loaded["letters"].predictor.engine}
    assert loaded["names"].predictor.engine is not loaded["letters"].predictor.engine
    tasks.unload("names", 1)
    loaded.clear()
    assert engines.alive == 1
