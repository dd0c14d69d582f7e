from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from models.backbone_store import StoredBackbone
from models.batch import Batch
from models.engine import Engine
from models.errors import BackboneNotFound, VersionCorrupt, VersionNotFound
from models.features import FeatureKind, Features
from models.golden import FEATURES
from models.head import Head
from models.manifest import EngineReference, FileEntry
from models.precision import Precision
from models.predictor import read_head
from models.repository import ModelRepository
from service.worker.registry import Registry
from tests.tiny_models import (
    FINE,
    LETTERS,
    CoarseEngine,
    NoGraph,
    TorchEngines,
    TwoPrecisions,
    publish_texts,
    torch_engine,
)


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


class CrookedEngine:
    """Computes something else than the engine that the golden answers came from."""

    identity = "crooked"
    streams = 1

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.cost = engine.cost

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        return Features(kind=kind, values=-self._engine.features(batch, kind).values)

    def warm_up(self) -> None:
        self._engine.warm_up()


class Crooked(TorchEngines):
    """Engines that compute something else; the exact one may, too."""

    def __init__(self, exact: Callable[[StoredBackbone], Engine]) -> None:
        super().__init__(lambda stored: CrookedEngine(torch_engine(stored)))
        self._exact = exact

    def exact(self, stored: StoredBackbone) -> Engine:
        return self._exact(stored)


def test_versions_that_a_faster_engine_does_not_answer_as_they_should_are_served_by_torch(
    texts_on_disk: ModelRepository, caplog: pytest.LogCaptureFixture
) -> None:
    exact: list[Engine] = []

    def build(stored: StoredBackbone) -> Engine:
        exact.append(torch_engine(stored))
        return exact[-1]

    registry = Registry(texts_on_disk, Crooked(build))
    for name in ("letters", "moods"):
        loaded = registry.load(name, 1)
        assert loaded.predictor.engine is exact[0]
        assert "not by crooked: the golden inputs get other features" in loaded.serving.reason
        assert f"{name}:1 is not served by crooked" in caplog.text
    assert len(exact) == 1


def test_a_damaged_head_is_not_blamed_on_the_engine(texts_on_disk: ModelRepository) -> None:
    scores = [[0.0, 0.0, 0.0, 1.0]] * GOLDEN_ROWS
    texts = json.loads((texts_on_disk.read("letters", 1).directory / "golden/expected.json").read_text())["texts"]
    damage = {"golden/expected.json": json.dumps({"texts": texts, "scores": scores}).encode()}
    rewrite(texts_on_disk, "letters", damage)
    registry = Registry(texts_on_disk, Crooked(lambda stored: pytest.fail("no engine can help")))
    with pytest.raises(VersionCorrupt, match="golden"):
        registry.load("letters", 1)


def test_a_version_must_give_its_golden_answers(texts_on_disk: ModelRepository) -> None:
    """Whichever is asked first: an engine that gave no right answer has proven nothing."""
    crooked = Registry(texts_on_disk, Crooked(exact=lambda stored: CrookedEngine(torch_engine(stored))))
    for name in ("letters", "moods", "letters"):
        with pytest.raises(VersionCorrupt, match="golden"):
            crooked.load(name, 1)
        with pytest.raises(VersionNotFound):
            crooked.get(name, 1)


class CountedEngine:
    """A real engine that counts the rows that it computes."""

    streams = 1

    def __init__(self, stored: StoredBackbone) -> None:
        self._engine = torch_engine(stored)
        self.identity = self._engine.identity
        self.rows = 0

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        features = self._engine.features(batch, kind)
        self.rows += len(features.values)
        return features

    def warm_up(self) -> None:
        pass


GOLDEN_ROWS = 2  # of each version


class Counting:
    """A registry whose engines count."""

    def __init__(self, repository: ModelRepository) -> None:
        self.registry = Registry(repository, TorchEngines(self._build))
        self.engines: list[CountedEngine] = []

    def _build(self, stored: StoredBackbone) -> Engine:
        self.engines.append(CountedEngine(stored))
        return self.engines[-1]

    def rows_to_load(self, name: str) -> int:
        """That the backbone computes for the golden check of a version."""
        before = sum(engine.rows for engine in self.engines)
        self.registry.load(name, 1)
        return sum(engine.rows for engine in self.engines) - before


@pytest.fixture
def counting(texts_on_disk: ModelRepository) -> Counting:
    return Counting(texts_on_disk)


def rewrite(repository: ModelRepository, name: str, changes: Mapping[str, bytes | None], **fields: object) -> None:
    """Changes files and the manifest of ``<name>:1``, so that every checksum is right again; nothing deletes a file."""
    version = repository.read(name, 1)
    files = dict(version.manifest.files)
    for path, data in changes.items():
        if data is None:
            (version.directory / path).unlink()
            del files[path]
        else:
            (version.directory / path).write_bytes(data)
            files[path] = FileEntry(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    manifest = version.manifest.model_copy(update={"files": files, **fields})
    (version.directory / "manifest.json").write_text(manifest.model_dump_json())


def test_only_the_first_version_on_a_backbone_runs_it(counting: Counting) -> None:
    assert counting.rows_to_load("letters") == GOLDEN_ROWS
    assert counting.rows_to_load("moods") == 0
    assert counting.rows_to_load("moods") == 0
    wanted = counting.registry.get("letters", 1).predictor.predict(["a"])
    for name in ("letters", "moods"):
        counting.registry.unload(name, 1)
    assert counting.rows_to_load("moods") == GOLDEN_ROWS  # on a new engine
    assert counting.rows_to_load("letters") == 0
    assert len(counting.engines) == 2
    assert torch.equal(counting.registry.get("letters", 1).predictor.predict(["a"]), wanted)


def test_a_version_that_was_published_with_another_engine_is_checked_from_its_inputs(
    counting: Counting, texts_on_disk: ModelRepository
) -> None:
    record = texts_on_disk.read("moods", 1).manifest.reference
    record = record.model_copy(update={"engine": EngineReference(identity="another")})
    rewrite(texts_on_disk, "moods", {}, heads={Precision.FP32: record})
    assert counting.rows_to_load("letters") == GOLDEN_ROWS
    assert counting.rows_to_load("moods") == GOLDEN_ROWS


def test_a_version_that_is_prepared_otherwise_is_checked_from_its_inputs(
    counting: Counting, texts_on_disk: ModelRepository
) -> None:
    preprocessor = texts_on_disk.read("moods", 1).manifest.preprocessor
    rewrite(texts_on_disk, "moods", {}, preprocessor=preprocessor.model_copy(update={"max_tokens": 60}))
    assert counting.rows_to_load("letters") == GOLDEN_ROWS
    assert counting.rows_to_load("moods") == GOLDEN_ROWS


@pytest.mark.parametrize("first", ["moods", "letters"], ids=["as the first", "as one of the following"])
@pytest.mark.parametrize("damaged", ["head", "features", "scores"])
def test_what_does_not_fit_together_is_refused_though_its_checksums_are_right(
    first: str, damaged: str, counting: Counting, texts_on_disk: ModelRepository
) -> None:
    version = texts_on_disk.read("moods", 1)
    if damaged == "head":
        head = read_head(version.directory, version.manifest)
        file, data = "head.safetensors", Head(weight_CD=head.weight_CD.flip(0), bias_C=head.bias_C).to_bytes()
    elif damaged == "features":
        file = FEATURES
        data = save({"features": -load((version.directory / FEATURES).read_bytes())["features"]})
    else:
        file = "golden/expected.json"
        expected = json.loads((version.directory / file).read_text())
        data = json.dumps({**expected, "scores": [row[::-1] for row in expected["scores"]]}).encode()
    rewrite(texts_on_disk, "moods", {file: data})
    if first == "letters":
        counting.registry.load("letters", 1)
    with pytest.raises(VersionCorrupt, match="golden"):
        counting.registry.load("moods", 1)
    with pytest.raises(VersionNotFound):
        counting.registry.get("moods", 1)
    counting.registry.load("letters", 1)


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


@pytest.fixture
def two_precisions(texts_on_disk: ModelRepository, tiny_text: str) -> ModelRepository:
    """With ``letters:2``, which has a head for int8 too."""
    publish_texts(texts_on_disk, tiny_text, "letters", LETTERS, seed=3, engines=TwoPrecisions(FINE))
    return texts_on_disk


def test_a_version_is_served_in_the_precision_that_is_preferred_here(two_precisions: ModelRepository) -> None:
    registry = Registry(two_precisions, TwoPrecisions(FINE))
    version = registry.load("letters", 2)
    assert (version.serving.precision, version.serving.engine) == ("int8", "coarse/cpu/int8")
    head = read_head(two_precisions.read("letters", 2).directory, version.manifest, Precision.INT8)
    assert torch.equal(version.predictor.head.weight_CD, head.weight_CD)

    other = registry.load("letters", 1)  # it has no head for int8
    assert other.serving.precision == "fp32"
    assert other.backbone == version.backbone
    assert other.prepare(b"a", truncate=False)[1] != version.prepare(b"a", truncate=False)[1]

    assert Registry(two_precisions, TorchEngines()).load("letters", 2).serving.precision == "fp32"


def test_a_refused_precision_does_not_serve_and_it_is_said(two_precisions: ModelRepository) -> None:
    version = two_precisions.read("letters", 2)
    heads = version.manifest.heads
    refused = heads[Precision.INT8].model_copy(update={"refused": "it loses too much"})
    manifest = version.manifest.model_copy(update={"heads": {**heads, Precision.INT8: refused}})
    (version.directory / "manifest.json").write_text(manifest.model_dump_json())
    serving = Registry(two_precisions, TwoPrecisions(FINE)).load("letters", 2).serving
    assert serving.precision == "fp32"
    assert "not in int8: it loses too much" in serving.reason


def test_int8_that_does_not_run_here_gives_way_to_fp32(
    two_precisions: ModelRepository, caplog: pytest.LogCaptureFixture
) -> None:
    serving = Registry(two_precisions, NoGraph(FINE)).load("letters", 2).serving
    assert serving.precision == "fp32"
    assert "not in int8: it does not run here" in serving.reason
    assert "Unable to read the model" in caplog.text


def test_int8_of_another_graph_is_found_out_though_a_version_of_this_one_was_loaded_before(
    two_precisions: ModelRepository, tiny_text: str
) -> None:
    """Copied from a machine whose graph was calibrated otherwise, say: its identity says so."""

    class Elsewhere(TwoPrecisions):
        def build(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> Engine:
            engine = super().build(stored, precision, kind)
            if isinstance(engine, CoarseEngine):
                engine.identity = "coarse/cpu/int8/elsewhere"
            return engine

    publish_texts(two_precisions, tiny_text, "letters", LETTERS, seed=3, engines=Elsewhere(0.3))
    registry = Registry(two_precisions, TwoPrecisions(FINE))
    assert registry.load("letters", 2).serving.precision == "int8"
    serving = registry.load("letters", 3).serving
    assert serving.precision == "fp32"
    assert "not in int8: the golden inputs get other features" in serving.reason


def test_int8_that_computes_otherwise_here_gives_way_to_fp32(
    two_precisions: ModelRepository, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a processor that multiplies 8-bit numbers in another way than the one that the head was fitted on."""
    registry = Registry(two_precisions, TwoPrecisions(0.3))
    version = registry.load("letters", 2)
    assert version.serving.precision == "fp32"
    assert "not in int8: the golden inputs get other features" in version.serving.reason
    assert "letters:2 is not served in int8" in caplog.text
    assert torch.equal(
        version.predictor.predict(["a"]),
        Registry(two_precisions, TorchEngines()).load("letters", 2).predictor.predict(["a"]),
    )


# Tasks


@pytest.fixture
def tasks(tasks_on_disk: Path, engines: Engines) -> Registry:
    return Registry(ModelRepository(tasks_on_disk), TorchEngines(engines))


ALL = ("letters", "topics", "prices", "names", "follows", "likeness")


def test_every_task_is_loaded_on_two_engines(tasks: Registry, engines: Engines) -> None:
    """One for pooled features, and one for those of tokens."""
    loaded = {name: tasks.load(name, 1) for name in ALL}
    assert len(engines.built) == 2
    assert {loaded[name].predictor.engine for name in ALL if name != "names"} == {loaded["letters"].predictor.engine}
    assert loaded["names"].predictor.engine is not loaded["letters"].predictor.engine
    tasks.unload("names", 1)
    loaded.clear()
    assert engines.alive == 1


def test_every_task_must_give_its_golden_answers(tasks_on_disk: Path) -> None:
    crooked = Registry(ModelRepository(tasks_on_disk), Crooked(lambda stored: CrookedEngine(torch_engine(stored))))
    for name in ALL:
        with pytest.raises(VersionCorrupt, match="golden"):
            crooked.load(name, 1)
