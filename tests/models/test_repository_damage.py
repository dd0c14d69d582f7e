"""Rows L11, L12 and L20: a repository that was damaged on the disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable

import pytest

from models import deployment, manifest
from models.aliases import promote
from models.deployment import CHAMPION
from models.errors import PromotionRefused, VersionCorrupt, VersionNotFound
from models.repository import ModelRepository
from models.version import ModelVersion
from tests.models.versions import parse, publish


def _flip_a_bit(version: ModelVersion) -> None:
    file = version.directory / "head.safetensors"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])


def _truncate(version: ModelVersion) -> None:
    (version.directory / "report" / "figure.png").write_bytes(b"fig")


def _remove_a_file(version: ModelVersion) -> None:
    (version.directory / "golden" / "expected.json").unlink()


def _add_a_pickle(version: ModelVersion) -> None:
    (version.directory / "report" / "extra.pkl").write_bytes(b"\x80\x04.")


def _link_a_file(version: ModelVersion) -> None:
    file = version.directory / "head.safetensors"
    shutil.move(file, version.directory.parent / "elsewhere")
    file.symlink_to(version.directory.parent / "elsewhere")


def _link_a_folder(version: ModelVersion) -> None:
    shutil.move(version.directory / "report", version.directory.parent / "elsewhere")
    (version.directory / "report").symlink_to(version.directory.parent / "elsewhere")


def _add_a_linked_folder(version: ModelVersion) -> None:
    (version.directory / "more").symlink_to("/")


def _replace_by_a_pipe(version: ModelVersion) -> None:
    (version.directory / "head.safetensors").unlink()
    os.mkfifo(version.directory / "head.safetensors")


def _name_a_file_outside(version: ModelVersion) -> None:
    text = (version.directory / "manifest.json").read_text()
    (version.directory.parent / "outside").write_bytes(b"weights")
    (version.directory / "manifest.json").write_text(text.replace('"head.safetensors"', '"../outside"'))


DAMAGES = [
    _flip_a_bit,
    _truncate,
    _remove_a_file,
    _add_a_pickle,
    _link_a_file,
    _link_a_folder,
    _add_a_linked_folder,
    _replace_by_a_pipe,
    _name_a_file_outside,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_a_damaged_version_does_not_verify(damage: Callable[[ModelVersion], None], repository: ModelRepository) -> None:
    publish(repository)
    damage(publish(repository))
    with pytest.raises(VersionCorrupt, match=r"flowers:2.*; publish the model again") as caught:
        repository.verify(repository.read("flowers", 2))
    assert str(repository.root) not in caught.value.message
    repository.verify(repository.read("flowers", 1))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"schema_version": 4}', b'{"schema_version": "x"}', b"[" * 100_000],
)
def test_a_damaged_manifest_is_not_read(content: bytes, repository: ModelRepository) -> None:
    version = publish(repository)
    (version.directory / "manifest.json").write_bytes(content)
    with pytest.raises(VersionCorrupt, match="the manifest of flowers:1 is damaged"):
        repository.read("flowers", 1)
    assert repository.versions("flowers") == []


def test_a_manifest_that_is_missing_or_of_another_version_is_not_read(repository: ModelRepository) -> None:
    first, second = publish(repository), publish(repository)
    shutil.copy(first.directory / "manifest.json", second.directory)
    with pytest.raises(VersionCorrupt, match="the manifest of flowers:2 is that of flowers:1"):
        repository.read("flowers", 2)
    (second.directory / "manifest.json").unlink()
    with pytest.raises(VersionCorrupt, match="flowers:2 has no readable manifest"):
        repository.read("flowers", 2)


def test_a_damaged_newest_version_keeps_neither_rollback_nor_its_own_removal(repository: ModelRepository) -> None:
    publish(repository)
    newest = publish(repository)
    (newest.directory / "manifest.json").write_bytes(b"{")
    with pytest.raises(PromotionRefused, match=r"the manifest of flowers:2 is damaged .*; 'champion' stays as it is"):
        promote(repository, parse("flowers:2"), CHAMPION)
    assert promote(repository, parse("flowers:1"), CHAMPION).now == 1
    assert str(repository.delete(parse("flowers:2"))) == "flowers:2"
    assert publish(repository).number == 3


def test_an_alias_of_a_version_that_was_removed_by_hand_can_be_mended(repository: ModelRepository) -> None:
    publish(repository)
    promote(repository, parse(str(publish(repository))), CHAMPION)
    shutil.rmtree(repository.root / "flowers" / "2")
    with pytest.raises(VersionNotFound, match="no version 2 of 'flowers'; it has 1"):
        repository.resolve(parse("flowers"))
    promote(repository, parse("flowers:1"), CHAMPION)
    assert repository.resolve(parse("flowers")).number == 1


def test_damaged_aliases_are_refused_and_not_written_over(repository: ModelRepository) -> None:
    publish(repository)
    file = repository.root / "flowers" / "deployment.json"
    file.write_bytes(b"{")
    for action in (
        lambda: repository.resolve(parse("flowers")),
        lambda: promote(repository, parse("flowers:1"), CHAMPION),
        lambda: repository.delete(parse("flowers:1")),
    ):
        with pytest.raises(VersionCorrupt, match=r"delete its deployment\.json"):
            action()
    assert file.read_bytes() == b"{"
    assert repository.resolve(parse("flowers:1")).number == 1


def test_a_newer_schema_is_refused_without_writing(repository: ModelRepository) -> None:
    """Also where all the fields that this version knows are there: they may mean something else by then."""
    version = publish(repository)
    promote(repository, parse("flowers:1"), CHAMPION)
    for file, ours in (
        (version.directory / "manifest.json", manifest.SCHEMAS[-1]),
        (repository.root / "flowers" / "deployment.json", deployment.SCHEMA_VERSION),
    ):
        old = file.read_text()
        for newer in ({"schema_version": ours + 1}, {"schema_version": ours + 2, "new_field": []}):
            content = json.dumps({**json.loads(old), **newer})
            file.write_text(content)
            for action in (
                lambda: repository.resolve(parse("flowers")),
                lambda: promote(repository, parse("flowers@champion"), "other"),
            ):
                with pytest.raises(
                    (VersionCorrupt, PromotionRefused),
                    match=rf"written in schema \d, this is {ours}; upgrade graftwork",
                ):
                    action()
            assert file.read_text() == content
        file.write_text(old)


def test_an_older_schema_is_refused_with_the_cure(repository: ModelRepository) -> None:
    version = publish(repository)
    file = version.directory / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 1}))
    with pytest.raises(
        VersionCorrupt, match="flowers:1: written in schema 1, this is 4; run: graftwork models migrate"
    ):
        repository.read("flowers", 1)


def test_a_version_deleted_while_it_is_loaded_is_a_clean_error(repository: ModelRepository) -> None:
    publish(repository)
    version = publish(repository)
    repository.delete(parse("flowers:2"))
    with pytest.raises(VersionCorrupt):
        repository.verify(version)
    with pytest.raises(VersionNotFound):
        repository.read("flowers", 2)


@pytest.mark.parametrize("level", ["version", "model"])
def test_a_version_is_not_reached_through_a_link(level: str, repository: ModelRepository) -> None:
    directory = publish(repository).directory
    linked = directory if level == "version" else directory.parent
    shutil.move(linked, repository.root.parent / "elsewhere")
    linked.symlink_to(repository.root.parent / "elsewhere")
    with pytest.raises(VersionCorrupt, match="flowers:1 is a symbolic link; put the version itself there"):
        repository.read("flowers", 1)
