"""Backbones on disk: stored once, named by their content, whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import storage
from models.backbone import BackboneConfig, Modality
from models.backbone_store import BackboneStore
from models.checkpoint import Checkpoint
from models.errors import BackboneNotFound, StorageFailed, VersionCorrupt
from models.preprocessor import TextPreprocessorConfig
from models.sources import fetch_checkpoint


def checkpoint(source: str = "dir:x", value: float = 1.0) -> Checkpoint:
    config = BackboneConfig(
        source=source, library="transformers", architecture="bert", modality=Modality.TEXT, feature_dim=2
    )
    return Checkpoint(
        config=config,
        state={"weight": torch.full((2, 3), value), "bias": torch.zeros(2)},
        preprocessor=TextPreprocessorConfig(max_tokens=8),
        tokenizer_json=b"{}",
    )


@pytest.fixture
def store(tmp_path: Path) -> BackboneStore:
    return BackboneStore(tmp_path / "repository" / ".backbones")


def test_a_backbone_is_stored_once_under_its_digest(store: BackboneStore) -> None:
    assert store.list() == []
    stored = store.add(checkpoint())
    assert stored.directory == store.root / stored.digest
    assert sorted(os.listdir(stored.directory)) == ["config.json", "model.safetensors", "tokenizer.json"]
    written = stored.directory.stat().st_ino
    assert store.add(checkpoint()) == stored
    assert stored.directory.stat().st_ino == written
    assert os.listdir(store.root) == [stored.digest]
    assert store.get(stored.digest) == store.verify(stored.digest) == stored
    assert stored.size_bytes == sum(file.stat().st_size for file in stored.directory.iterdir())


def test_equal_backbones_have_equal_digests_and_others_do_not(store: BackboneStore) -> None:
    first = checkpoint()
    reordered = replace(first, state=dict(reversed(list(first.state.items()))))
    strided = replace(first, state={**first.state, "weight": torch.ones(3, 2).T})
    other_digests = {
        store.add(other).digest
        for other in (
            checkpoint("dir:y"),
            checkpoint(value=1.0000001),
            replace(first, tokenizer_json=b"{ }"),
            replace(first, tokenizer_json=None),
        )
    }
    digest = store.add(first).digest
    assert store.add(reordered).digest == store.add(strided).digest == digest
    assert len(other_digests | {digest}) == 5
    assert {stored.digest for stored in store.list()} == other_digests | {digest}


def test_backbones_are_listed_by_source(store: BackboneStore) -> None:
    for source in ("dir:b", "dir:c", "dir:a"):
        store.add(checkpoint(source))
    (store.root / "notes.txt").write_text("")
    (store.root / ".staging-x").mkdir()
    assert [stored.config.source for stored in store.list()] == ["dir:a", "dir:b", "dir:c"]


@pytest.mark.parametrize("digest", ["0" * 64, "", ".", "..", "../x", "0" * 63, "A" * 64, "/etc", ".staging-1"])
def test_an_unknown_or_hostile_digest_is_not_found(digest: str, store: BackboneStore) -> None:
    store.add(checkpoint())
    (store.root / ".staging-1").mkdir()
    for action in (store.get, store.verify):
        with pytest.raises(BackboneNotFound, match="is not in this repository"):
            action(digest)


def _flip_a_bit(directory: Path) -> None:
    file = directory / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def _truncate(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def _remove(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


def _remove_config(directory: Path) -> None:
    (directory / "config.json").unlink()


def _break_config(directory: Path) -> None:
    (directory / "config.json").write_bytes(b"{")


def _add_a_pickle(directory: Path) -> None:
    (directory / "extra.pkl").write_bytes(b"\x80\x04.")


def _add_a_folder(directory: Path) -> None:
    (directory / "folder").mkdir()


def _link(directory: Path) -> None:
    file = directory / "model.safetensors"
    shutil.move(file, directory.parent / "elsewhere")
    file.symlink_to(directory.parent / "elsewhere")


def _pipe(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()
    os.mkfifo(directory / "tokenizer.json")


DAMAGES = [
    _flip_a_bit,
    _truncate,
    _remove,
    _remove_config,
    _break_config,
    _add_a_pickle,
    _add_a_folder,
    _link,
    _pipe,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_a_damaged_backbone_is_refused_and_mended_by_adding_it_again(
    damage: Callable[[Path], None], store: BackboneStore
) -> None:
    stored = store.add(checkpoint())
    other = store.add(checkpoint("dir:other"))
    damage(stored.directory)
    with pytest.raises(VersionCorrupt, match="damaged on disk; publish its models again"):
        store.verify(stored.digest)
    assert other in store.list()
    assert store.add(checkpoint()) == stored
    assert store.verify(stored.digest) == stored


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("fault", ["ENOSPC", "EIO", "EROFS", "full", "kill"])
def test_a_fault_at_any_step_leaves_a_whole_backbone_or_none(fault: str, damaged: bool, tmp_path: Path) -> None:
    def add(root: Path, fail_at: int | None) -> tuple[list[str], BaseException | None]:
        steps: list[str] = []

        def trace(step: str) -> None:
            steps.append(step)
            since = -1 if fail_at is None else len(steps) - 1 - fail_at
            if fault == "kill" and since >= 0:
                raise Killed
            if fault == "full" and since >= 0 and step in ("mkdir", "open", "write", "fsync"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if since == 0 and fault not in ("kill", "full"):
                number = getattr(errno, fault)
                raise OSError(number, os.strerror(number))

        storage.trace = trace
        try:
            BackboneStore(root).add(checkpoint())
        except (StorageFailed, Killed) as error:
            return steps, error
        finally:
            storage.trace = None
        return steps, None

    def prepare(root: Path) -> None:
        other = BackboneStore(root).add(checkpoint("dir:other"))
        if damaged:
            stored = BackboneStore(root).add(checkpoint())
            _flip_a_bit(stored.directory)
        assert other.directory.is_dir()

    prepare(tmp_path / "all")
    steps, error = add(tmp_path / "all", None)
    assert error is None
    assert "rename" in steps
    digest = BackboneStore(tmp_path / "all").add(checkpoint()).digest
    for index, step in enumerate(steps):
        root = tmp_path / str(index)
        prepare(root)
        _, error = add(root, index)
        store = BackboneStore(root)
        try:
            store.verify(digest)
            whole = True
        except BackboneNotFound:
            whole = False
        except VersionCorrupt:
            assert damaged, step  # as it was before
            whole = False
        if error is None:
            assert whole, step
        assert store.add(checkpoint()).digest == digest
        store.verify(digest)
        store.add(checkpoint("dir:another"))  # sweeps what a kill, or a fault while removing, left behind
        assert len(store.list()) == 3
        assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="the model repository cannot be written: Not a directory"):
        BackboneStore(tmp_path / "file" / ".backbones").add(checkpoint())


def test_another_process_may_be_quicker(store: BackboneStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same backbone appears while this one is being staged: one of them stays, and it is whole."""
    rivals = [BackboneStore(store.root)]

    def trace(step: str) -> None:
        if step == "fsync-directory" and rivals:
            rivals.pop().add(checkpoint())

    monkeypatch.setattr(storage, "trace", trace)
    stored = store.add(checkpoint())
    assert rivals == []
    assert os.listdir(store.root) == [stored.digest]
    store.verify(stored.digest)


def test_a_real_checkpoint_survives_the_disk(tiny_text: str, store: BackboneStore) -> None:
    from safetensors.torch import load_file

    original = fetch_checkpoint(tiny_text)
    stored = store.add(original)
    state = load_file(stored.directory / "model.safetensors")
    assert stored.config == original.config
    assert state.keys() == original.state.keys()
    assert all(torch.equal(state[name], original.state[name]) for name in state)
