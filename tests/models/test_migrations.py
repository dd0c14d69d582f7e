"""Documents of older schemas, and what becomes of them."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import deployment, manifest, storage
from models.aliases import promote
from models.deployment import Deployment
from models.errors import StorageFailed, VersionCorrupt
from models.manifest import Manifest
from models.migrations import DEPLOYMENTS, MANIFESTS, Migrated, migrate
from models.precision import Precision
from models.repository import ModelRepository
from models.task import Task
from tests.models.old_manifests import METRICS, place, schema_1, schema_2, schema_3
from tests.models.versions import EMBEDDING, leftovers, parse, publish
from tests.models.versions import manifest as described

SCHEMAS = [schema_1, schema_2, schema_3]
OURS = manifest.SCHEMA_VERSION
NEWEST = manifest.SCHEMAS[-1]


def read(document: dict[str, Any]) -> Manifest:
    found, model = MANIFESTS.migrated(json.dumps(document).encode())
    assert found == document["schema_version"]
    assert isinstance(model, Manifest)
    return model


def test_every_older_schema_has_a_step() -> None:
    assert len(MANIFESTS.steps) == manifest.SCHEMA_VERSION - 1
    assert len(DEPLOYMENTS.steps) == deployment.SCHEMA_VERSION - 1


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_what_all_schemas_say_stays(schema: Callable[..., dict[str, Any]]) -> None:
    before = schema()
    after = json.loads(read(copy.deepcopy(before)).model_dump_json())
    for key in ("name", "number", "task", "labels", "backbone", "data", "created_at", "libraries", "files"):
        assert after[key] == before[key]
    assert after["schema_version"] == OURS
    assert after["label_changes"] is None


@pytest.mark.parametrize("schema", [schema_1, schema_2], ids=lambda schema: schema.__name__)
def test_a_probe_for_one_label_says_so_in_todays_words(schema: Callable[..., dict[str, Any]]) -> None:
    reference = read(schema()).reference
    assert reference.calibration.temperature == 1.25
    assert reference.engine.identity == "torch-2.7.0/cpu/fp32"
    assert reference.metrics == METRICS
    training = reference.training
    assert training is not None
    assert (training.strategy, training.seed, training.folds) == ("probe", 3, 5)
    assert training.settings == {"regularisation_c": 0.5, "feature_scaling": "standardised"}
    assert (training.validated_on, training.validation_metric) == ("cross-validation", "accuracy")
    assert (training.validation_score, training.validation_loss) == (0.875, 0.31)


def test_every_precision_is_migrated() -> None:
    heads = read(schema_2()).heads
    assert set(heads) == {Precision.FP32, Precision.INT8}
    assert heads[Precision.INT8].refused == "it loses too much"
    assert heads[Precision.INT8].training == heads[Precision.FP32].training


def test_an_imported_classifier_was_never_trained() -> None:
    for document in (schema_1(training=None, data=None, metrics={}), schema_2(data=None)):
        for head in document.get("heads", {}).values():
            head["training"] = None
        found = read(document)
        assert found.reference.training is None
        assert found.data is None


def test_steps_change_no_document_in_place() -> None:
    for schema in SCHEMAS:
        document = schema()
        for step in MANIFESTS.steps[document["schema_version"] - 1 :]:
            before = copy.deepcopy(document)
            after = step(document)
            assert document == before
            document = after


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (schema_1(files={}), "no golden features to be checked by; publish the model again"),
        (schema_2(task="multi-label"), "that of a single label; publish the model again"),
        (
            schema_3(schema_version=NEWEST + 1),
            rf"^written in schema {NEWEST + 1}, this is {NEWEST}; upgrade graftwork$",
        ),
        *(
            (document, "^damaged; publish the model again$")
            for document in (
                schema_1(schema_version=0),
                schema_1(schema_version=True),
                schema_1(schema_version="1"),
                schema_1(files=None),
                schema_1(labels=[]),
                schema_2(heads={}),
                schema_2(heads=[]),
                schema_2(heads={"fp32": {"training": {"strategy": "probe"}}}),
                schema_3(unknown=1),
                schema_3(name=None),
                {},
                [],
            )
        ),
    ],
)
def test_what_cannot_be_done_honestly_is_said(document: Any, said: str) -> None:
    with pytest.raises(VersionCorrupt, match=said):
        MANIFESTS.migrated(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_document_is_damaged(data: bytes) -> None:
    with pytest.raises(VersionCorrupt, match=r"^damaged; delete its deployment\.json$"):
        DEPLOYMENTS.migrated(data)


# A whole repository


@pytest.fixture
def old(repository: ModelRepository) -> ModelRepository:
    """``flowers`` in schema 1, 2 and 3, and today's; the second is champion. ``dogs`` in schema 3."""
    for number, schema in enumerate(SCHEMAS, 1):
        place(repository, schema(number=number))
    publish(repository)
    promote(repository, parse("flowers:4"))
    place(repository, schema_3(name="dogs"))
    return repository


def test_a_reader_names_the_cure_and_then_reads(old: ModelRepository) -> None:
    for number in (1, 2, 3):
        with pytest.raises(VersionCorrupt, match=rf"schema {number}, this is {OURS}; run: graftwork models migrate$"):
            old.read("flowers", number)
    assert migrate(old) == [
        Migrated(name="dogs:1", found=3, schema=OURS),
        *(Migrated(name=f"flowers:{number}", found=number, schema=OURS) for number in (1, 2, 3)),
    ]
    for name in old.names():
        for number in old.numbers(name):
            old.verify(old.read(name, number))
    assert leftovers(old.root) == []


def test_servers_are_told_once_and_a_second_run_does_nothing(
    old: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bytes] = []
    announce = old.announce
    monkeypatch.setattr(old, "announce", lambda: (announce(), told.append(old.generation())))
    before = old.generation()
    migrate(old)
    assert len(told) == 1
    assert told[0] != before
    written = {path: path.stat().st_mtime_ns for path in old.root.rglob("*") if path.is_file()}
    assert migrate(old) == []
    assert {path: path.stat().st_mtime_ns for path in old.root.rglob("*") if path.is_file()} == written
    assert len(told) == 1


def test_a_dry_run_says_the_same_and_writes_nothing(old: ModelRepository) -> None:
    before = {path: path.read_bytes() for path in old.root.rglob("*") if path.is_file()}
    would = migrate(old, dry_run=True)
    assert {path: path.read_bytes() for path in old.root.rglob("*") if path.is_file()} == before
    assert migrate(old) == would


def test_what_is_damaged_or_newer_is_listed_and_left_as_it_is(old: ModelRepository) -> None:
    damaged, newer = old.root / "flowers" / "2" / "manifest.json", old.root / "flowers" / "3" / "manifest.json"
    aliases = old.root / "flowers" / "deployment.json"
    damaged.write_bytes(b"{")
    newer.write_text(json.dumps(schema_3(number=3, schema_version=NEWEST + 1)))
    aliases.write_text(json.dumps({"schema_version": 99}))
    (old.root / "flowers" / "4" / "manifest.json").unlink()
    left = {file: file.read_bytes() for file in (damaged, newer, aliases)}
    found = {one.name: one.problem for one in migrate(old)}
    assert found == {
        "dogs:1": None,
        "flowers:1": None,
        "flowers:2": "damaged; publish the model again",
        "flowers:3": f"written in schema {NEWEST + 1}, this is {NEWEST}; upgrade graftwork",
        "flowers:4": "damaged; publish the model again",
        "aliases of flowers": f"written in schema 99, this is {deployment.SCHEMA_VERSION}; upgrade graftwork",
    }
    assert {file: file.read_bytes() for file in left} == left


def test_an_embedding_stays_in_its_schema(repository: ModelRepository) -> None:
    """Who reads that of all others only is told to upgrade, and not that it is damaged."""
    embedding = json.loads(described("vectors", **EMBEDDING).model_dump_json())
    place(repository, embedding)
    assert embedding["schema_version"] == OURS + 1
    assert migrate(repository) == []
    assert repository.read("vectors", 1).manifest.task is Task.EMBEDDING


def test_there_may_be_no_repository(repository: ModelRepository) -> None:
    assert migrate(repository) == []
    assert not repository.root.exists()


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("number", [None, errno.ENOSPC, errno.EIO], ids=str)
def test_a_kill_or_an_error_at_any_step_leaves_each_document_old_or_new(
    number: int | None, old: ModelRepository, tmp_path: Path
) -> None:
    steps: list[str] = []
    shutil.copytree(old.root, tmp_path / "complete")
    storage.trace = steps.append
    try:
        migrate(ModelRepository(tmp_path / "complete"))
    finally:
        storage.trace = None
    names = [f"{name}/{number}/manifest.json" for name in old.names() for number in old.numbers(name)]
    before = [(old.root / name).read_bytes() for name in names]
    after = [(tmp_path / "complete" / name).read_bytes() for name in names]
    for index in range(len(steps)):
        repository = ModelRepository(tmp_path / str(index))
        shutil.copytree(old.root, repository.root)
        done: list[str] = []

        def trace(step: str, index: int = index, done: list[str] = done) -> None:
            done.append(step)
            if number is None and len(done) > index:
                raise Killed
            if number is not None and len(done) == index + 1:
                raise OSError(number, os.strerror(number))

        storage.trace = trace
        raised: BaseException | None = None
        try:
            migrate(repository)
        except (Killed, StorageFailed) as error:
            raised = error
        finally:
            storage.trace = None
        assert raised is not None
        found = [(repository.root / name).read_bytes() for name in names]
        assert all(one in (was, now) for one, was, now in zip(found, before, after, strict=True))
        # Whatever is left is no part of a version.
        assert not [path for path in leftovers(repository.root) if path.count("/") > 1]
        migrate(repository)
        assert [(repository.root / name).read_bytes() for name in names] == after
        for name in repository.names():
            for version in repository.versions(name):
                repository.verify(version)


def test_aliases_of_the_first_schema_keep_pointing_where_they_did(repository: ModelRepository) -> None:
    publish(repository)
    file = repository.root / "flowers" / "deployment.json"
    file.write_text('{"schema_version": 1, "aliases": {"champion": 1}}')
    with pytest.raises(VersionCorrupt, match=r"schema 1, this is 2; run: graftwork models migrate$"):
        repository.resolve(parse("flowers"))
    assert migrate(repository) == [Migrated(name="aliases of flowers", found=1, schema=2)]
    assert repository.deployment("flowers") == Deployment(aliases={"champion": 1})
