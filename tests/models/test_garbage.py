"""What is collected, and what stays."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from finetune.feature_cache import FeatureCache
from models import storage
from models.backbone_store import StoredBackbone
from models.engine_factory import EngineFactory
from models.errors import BackboneNotFound, StorageFailed
from models.garbage import Collected, Garbage, collect_garbage
from models.graph_cache import GraphCache
from models.precision import Precision
from models.repository import ModelRepository
from models.sources import fetch_checkpoint
from tests.models.versions import BACKBONE, FILES, leftovers, manifest, parse, place_backbone, publish

DAY = timedelta(days=1)
OTHER = "f" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def age(path: Path, days: float = 3) -> None:
    """Makes a file, or a directory with all in it, look as if it was last used some days ago."""
    then = time.time() - days * 86_400
    for each in (path, *path.rglob("*")):
        os.utime(each, (then, then))


def old_backbone(repository: ModelRepository, digest: str, size: int = 100) -> Path:
    directory = place_backbone(repository, digest)
    (directory / "model.safetensors").write_bytes(bytes(size))
    age(directory)
    return directory


def collect(repository: ModelRepository, cache: Path, *, dry_run: bool = False) -> Collected:
    return collect_garbage(repository, cache, unused_for=DAY, dry_run=dry_run)


def is_free(directory: Path) -> bool:
    with storage.locked_if_free(directory) as free:
        return free


def test_a_backbone_without_a_version_goes_and_others_stay(repository: ModelRepository, cache: Path) -> None:
    publish(repository)
    used, unused = old_backbone(repository, BACKBONE), old_backbone(repository, OTHER)
    would = collect(repository, cache, dry_run=True)
    assert would.garbage == (Garbage(kind="backbone", name=OTHER, size_bytes=100),)
    assert unused.is_dir()
    assert collect(repository, cache) == would
    assert used.is_dir()
    assert not unused.exists()
    assert collect(repository, cache).garbage == ()
    assert leftovers(repository.root) == []


def test_a_backbone_goes_after_the_last_version_that_refers_to_it(repository: ModelRepository, cache: Path) -> None:
    publish(repository)
    publish(repository, "dogs")
    backbone = old_backbone(repository, BACKBONE)
    repository.delete(parse("flowers:1"))
    assert collect(repository, cache).garbage == ()
    repository.delete(parse("dogs:1"))
    assert [one.name for one in collect(repository, cache).garbage] == [BACKBONE]
    assert not backbone.exists()


def test_a_backbone_that_was_added_a_short_while_ago_stays(repository: ModelRepository, cache: Path) -> None:
    place_backbone(repository, OTHER)
    assert collect(repository, cache).garbage == ()
    assert collect_garbage(repository, cache, unused_for=timedelta(0)).garbage != ()


def test_a_backbone_that_a_job_asks_for_again_is_as_good_as_new(
    repository: ModelRepository, cache: Path, tiny_text: str
) -> None:
    checkpoint = fetch_checkpoint(tiny_text)
    stored = repository.backbones.add(checkpoint)
    age(stored.directory)
    repository.backbones.add(checkpoint)
    assert collect(repository, cache).garbage == ()
    age(stored.directory)
    assert [one.name for one in collect(repository, cache).garbage] == [stored.digest]


def test_a_version_on_a_backbone_that_was_removed_meanwhile_is_not_published(
    repository: ModelRepository, cache: Path
) -> None:
    backbone = old_backbone(repository, BACKBONE)

    def check(staged: Path) -> None:
        collect(repository, cache)
        assert not backbone.exists()

    with pytest.raises(BackboneNotFound, match=f"backbone {BACKBONE[:12]} is not in this repository"):
        repository.publish(manifest(), FILES, check=check)
    assert repository.names() == []
    assert leftovers(repository.root) == []


def test_a_publish_and_a_collection_wait_for_each_other(repository: ModelRepository, cache: Path) -> None:
    """The collection begins while a version is being numbered: it waits, and then sees the version."""
    backbone = old_backbone(repository, BACKBONE)
    found: list[Collected] = []
    collector = threading.Thread(target=lambda: found.append(collect(repository, cache)))
    waiting = threading.Event()

    def trace(step: str) -> None:
        if threading.current_thread() is collector and step == "lock":
            waiting.set()

    def finish(number: int) -> dict[str, bytes]:
        assert not is_free(repository.backbones.root)
        collector.start()
        assert waiting.wait(20)
        return {}

    storage.trace = trace
    try:
        repository.publish(manifest(), FILES, check=lambda _: None, finish=finish)
        collector.join(20)
    finally:
        storage.trace = None
    assert found[0].garbage == ()
    assert backbone.is_dir()


def test_of_a_publisher_and_a_collector_in_a_race_no_version_loses_its_backbone(
    repository: ModelRepository, cache: Path
) -> None:
    """Each round has a backbone of its own, which the collector, who waits for nothing, may take before its version is there."""
    rounds, done, refused = 60, threading.Event(), []

    def collector() -> None:
        while not done.is_set():
            collect_garbage(ModelRepository(repository.root), cache, unused_for=timedelta(0))

    thread = threading.Thread(target=collector)
    thread.start()
    try:
        for number in range(rounds):
            digest = f"{number:064x}"
            place_backbone(repository, digest)
            reference = manifest().backbone.model_copy(update={"digest": digest})
            try:
                repository.publish(manifest(backbone=reference), FILES, check=lambda _: None)
            except BackboneNotFound:
                refused.append(number)
    finally:
        done.set()
        thread.join()
    assert len(repository.numbers("flowers")) == rounds - len(refused)
    for version in repository.versions("flowers"):
        assert (repository.backbones.root / version.manifest.backbone.digest).is_dir()


def test_a_backbone_is_removed_while_no_publish_can_look_for_it(repository: ModelRepository, cache: Path) -> None:
    old_backbone(repository, OTHER)
    free: list[bool] = []
    storage.trace = lambda step: free.append(is_free(repository.backbones.root)) if step == "rename" else None
    try:
        collect(repository, cache)
    finally:
        storage.trace = None
    assert free == [False]


def test_a_backbone_of_a_version_in_another_schema_stays(repository: ModelRepository, cache: Path) -> None:
    file = publish(repository).directory / "manifest.json"
    used, unused = old_backbone(repository, BACKBONE), old_backbone(repository, OTHER)
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 99, "more": {"teacher": "e" * 64}}))
    teacher = old_backbone(repository, "e" * 64)
    assert [one.name for one in collect(repository, cache).garbage] == [OTHER]
    assert used.is_dir()
    assert teacher.is_dir()
    assert not unused.exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b'{"backbone": {"digest": 7}}', b"[" * 100_000])
def test_a_version_that_does_not_tell_its_backbone_keeps_them_all(
    content: bytes | None, repository: ModelRepository, cache: Path
) -> None:
    publish(repository)
    file = publish(repository).directory / "manifest.json"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    backbone = old_backbone(repository, OTHER)
    collected = collect(repository, cache)
    assert (collected.garbage, collected.untold) == ((), ("flowers:2",))
    assert backbone.is_dir()
    repository.delete(parse("flowers:2"))
    assert [one.name for one in collect(repository, cache).garbage] == [OTHER]


def test_what_interrupted_publishes_left_goes_and_what_is_under_way_stays(
    repository: ModelRepository, cache: Path
) -> None:
    publish(repository)
    for place in (repository.root, repository.root / "flowers", repository.backbones.root):
        (place / ".staging-dead").mkdir()
        (place / ".staging-dead" / "head.safetensors").write_bytes(bytes(10))
    collected: list[Collected] = []

    def check(staged: Path) -> None:
        (repository.root / "flowers" / ".staging-dead").mkdir()  # the publish has swept the other one
        collected.append(collect(repository, cache))
        assert staged.is_dir()

    repository.publish(manifest(), FILES, check=check)
    assert [(one.kind, one.size_bytes) for one in collected[0].garbage] == [
        ("unfinished", 10),
        ("unfinished", 10),
        ("unfinished", 0),
    ]
    assert leftovers(repository.root) == []


def test_nothing_is_made_where_there_is_no_repository_and_no_cache(repository: ModelRepository, cache: Path) -> None:
    assert collect(repository, cache) == Collected(garbage=(), untold=())
    assert not repository.root.exists()
    assert not cache.exists()


def test_a_repository_that_cannot_be_written_is_an_error(
    repository: ModelRepository, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_backbone(repository, OTHER)

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(StorageFailed, match=r"^the model repository cannot be written: Permission denied$"):
        collect(repository, cache)


# The cache


@pytest.fixture
def filled(cache: Path, stored: StoredBackbone, quick_rounds: None) -> Path:
    """A cache as the real parts fill it, for a backbone of another repository; all of it old."""
    EngineFactory("cpu", threads=1, cache_dir=cache, wanted="openvino").build(stored)
    features = np.zeros((3, 2), dtype=np.float32)
    FeatureCache(cache).write("identity", "abc", features)
    FeatureCache(cache).write("identity", "abd", features)
    run = cache / "runs" / "0123" / "checkpoints" / "checkpoint-00000001"
    run.mkdir(parents=True)
    (run / "state.json").write_text("{}")
    age(cache)
    return cache


def kinds(collected: Collected) -> list[str]:
    return [one.kind for one in collected.garbage]


def test_what_nobody_has_used_for_a_while_goes_from_the_cache(repository: ModelRepository, filled: Path) -> None:
    would = collect(repository, filled, dry_run=True)
    assert kinds(would) == ["graph", "engine choice", "features", "training run"]
    assert would.size_bytes == storage.size_of(filled)
    assert collect(repository, filled) == would
    assert [path for path in filled.rglob("*") if path.is_file()] == []


def test_folders_that_nothing_was_in_for_a_while_go_the_next_time(repository: ModelRepository, filled: Path) -> None:
    collect(repository, filled)
    age(filled)
    assert collect(repository, filled).garbage == ()
    assert list((filled / "features").iterdir()) == list((filled / "graphs").iterdir()) == []


def test_what_was_used_a_short_while_ago_stays(
    repository: ModelRepository, filled: Path, stored: StoredBackbone
) -> None:
    """Reading is enough, and of features each batch counts for itself."""
    GraphCache(filled).graph(stored, Precision.FP32)
    EngineFactory("cpu", threads=1, cache_dir=filled, wanted="openvino").choice(stored)
    assert FeatureCache(filled).read("identity", "abc", rows=3) is not None
    (filled / "runs" / "0123" / "log.jsonl").write_text("{}")
    collected = collect(repository, filled)
    assert kinds(collected) == ["features"]
    assert FeatureCache(filled).read("identity", "abc", rows=3) is not None
    assert FeatureCache(filled).read("identity", "abd", rows=3) is None


def test_graphs_and_choices_of_a_backbone_in_the_repository_stay(
    repository: ModelRepository, filled: Path, stored: StoredBackbone
) -> None:
    place_backbone(repository, stored.digest)
    assert kinds(collect(repository, filled)) == ["features", "training run"]


def test_a_run_that_a_process_is_busy_with_stays(repository: ModelRepository, filled: Path) -> None:
    with storage.locked(filled / "runs" / "0123"):
        assert "training run" not in kinds(collect(repository, filled))
    assert (filled / "runs" / "0123").is_dir()
