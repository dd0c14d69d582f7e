"""A version is only served where it gives its golden answers."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from models.backbone_store import StoredBackbone
from models.batch import Batch
from models.engine import Engine
from models.errors import VersionCorrupt, VersionNotFound
from models.features import FeatureKind, Features
from models.golden import FEATURES
from models.head import Head
from models.manifest import EngineReference, FileEntry
from models.precision import Precision
from models.predictor import read_head
from models.repository import ModelRepository
from service.worker.registry import Registry
from tests.tiny_models import TASK_MODELS, TorchEngines, torch_engine

GOLDEN_ROWS = 2  # of each version


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
    """Engines that compute something else; the exact one may, too, or there may be none."""

    def __init__(self, exact: Callable[[StoredBackbone], Engine | None]) -> None:
        super().__init__(lambda stored: CrookedEngine(torch_engine(stored)))
        self._exact = exact

    def exact(self, stored: StoredBackbone) -> Engine | None:
        return self._exact(stored)


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


def also_crooked(stored: StoredBackbone) -> Engine | None:
    return CrookedEngine(torch_engine(stored))


def none(stored: StoredBackbone) -> Engine | None:
    return None


@pytest.mark.parametrize("exact", [also_crooked, none])
def test_a_version_must_give_its_golden_answers(
    texts_on_disk: ModelRepository, exact: Callable[[StoredBackbone], Engine | None]
) -> None:
    """Whichever is asked first: an engine that gave no right answer has proven nothing."""
    crooked = Registry(texts_on_disk, Crooked(exact))
    for name in ("letters", "moods", "letters"):
        with pytest.raises(VersionCorrupt, match="golden"):
            crooked.load(name, 1)
        with pytest.raises(VersionNotFound):
            crooked.get(name, 1)


def test_every_task_must_give_its_golden_answers(tasks_on_disk: Path) -> None:
    crooked = Registry(ModelRepository(tasks_on_disk), Crooked(also_crooked))
    for name in ("letters", *TASK_MODELS, "vectors"):
        with pytest.raises(VersionCorrupt, match="golden"):
            crooked.load(name, 1)


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


@pytest.fixture
def beside_vectors(tmp_path: Path, tasks_on_disk: Path) -> ModelRepository:
    shutil.copytree(tasks_on_disk, tmp_path / "repository")
    return ModelRepository(tmp_path / "repository")


def test_an_embedding_always_runs_the_backbone_and_proves_it_for_others(beside_vectors: ModelRepository) -> None:
    """Its features are its answers: what others have proven says nothing about those that it keeps."""
    counting = Counting(beside_vectors)
    rows = counting.rows_to_load("vectors")
    assert rows > 0
    assert counting.rows_to_load("letters") == 0
    assert counting.rows_to_load("vectors") == rows


@pytest.mark.parametrize("first", [True, False], ids=["as the first", "as one of the following"])
@pytest.mark.parametrize("damaged", ["features", "texts", "scores", "width"])
def test_an_embedding_whose_golden_answers_are_others_is_refused_though_its_checksums_are_right(
    damaged: str, first: bool, beside_vectors: ModelRepository
) -> None:
    directory = beside_vectors.read("vectors", 1).directory
    features = load((directory / FEATURES).read_bytes())["features"]
    expected = json.loads((directory / "golden/expected.json").read_text())
    changes: dict[str, dict[str, bytes | None]] = {
        "features": {FEATURES: save({"features": features.flip(0).contiguous()})},
        "texts": {"golden/expected.json": json.dumps({**expected, "texts": expected["texts"][::-1]}).encode()},
        "scores": {"golden/expected.json": json.dumps({**expected, "scores": [[0.5]] * len(features)}).encode()},
        "width": {FEATURES: save({"features": features[:, :8].contiguous()})},
    }
    rewrite(beside_vectors, "vectors", changes[damaged])
    counting = Counting(beside_vectors)
    if not first:
        counting.registry.load("letters", 1)
    with pytest.raises(VersionCorrupt, match="golden"):
        counting.registry.load("vectors", 1)
    with pytest.raises(VersionNotFound):
        counting.registry.get("vectors", 1)
    counting.registry.load("letters", 1)
