"""What nobody needs any more, in a repository and in a cache: found and removed.

In the repository:

- backbones that no version refers to. A job adds its backbone long before it publishes a version on it, so that one that was
  added a short while ago stays; `ModelRepository.publish` refuses a version whose backbone was removed all the same;
- what interrupted publishes and deletes have left.

In the cache, all of which can be made again and which other repositories may share:

- graphs and choices of an engine, of backbones that are not in this repository, once nobody has used them for a while;
- features and interrupted training runs, which do not name their backbone, once nobody has used them for a while.

Servers hold what they have loaded in memory, so that nothing changes for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from models import storage
from models.backbone_use import backbones_in_use
from models.repository import CANNOT_WRITE, ModelRepository
from models.version import is_name

Kind: TypeAlias = Literal["backbone", "unfinished", "graph", "engine choice", "features", "training run"]


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """One thing that nobody needs.

    Attributes:
        name: what tells it from others of its kind, such as a digest.
        size_bytes: of its files.
    """

    kind: Kind
    name: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What was found, and removed unless it was only looked for.

    Attributes:
        untold: versions that do not say which backbone is theirs, and for which all backbones stay.
    """

    garbage: tuple[Garbage, ...]
    untold: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes for one in self.garbage)


def collect_garbage(
    repository: ModelRepository, cache_dir: Path, *, unused_for: timedelta, dry_run: bool = False
) -> Collected:
    """Removes what nobody needs.

    Args:
        repository: need not exist.
        cache_dir: likewise.
        unused_for: what was added or used since then stays.
        dry_run: only looks.

    Raises:
        StorageFailed: something cannot be removed; every version still has its backbone.
    """
    collector = _Collector(before=time.time() - unused_for.total_seconds(), dry_run=dry_run)
    with storage.reporting(CANNOT_WRITE):
        unfinished = collector.unfinished(repository)
        backbones, kept, untold = collector.backbones(repository)
    with storage.reporting("the cache cannot be written"):
        cached = collector.cached(cache_dir, kept)
    return Collected(garbage=(*backbones, *unfinished, *cached), untold=untold)


@dataclass(frozen=True, kw_only=True)
class _Collector:
    before: float
    dry_run: bool

    def backbones(self, repository: ModelRepository) -> tuple[list[Garbage], Set[str], tuple[str, ...]]:
        """Backbones without a version, the digests of all others, and versions that do not tell."""
        store = repository.backbones
        if not store.root.is_dir():
            return [], set(), ()
        with storage.locked(store.root):  # as a publish does from the look at its backbone to the version
            use, there = backbones_in_use(repository), store.digests()
            unused = [
                digest
                for digest in there
                if not use.needs(digest) and (store.root / digest).stat().st_mtime <= self.before
            ]
            found = [
                Garbage(kind="backbone", name=digest, size_bytes=storage.size_of(store.root / digest))
                for digest in unused
            ]
            if unused and not self.dry_run:
                _remove_backbones(repository, unused)
        return found, set(there) - set(unused), use.untold

    def unfinished(self, repository: ModelRepository) -> list[Garbage]:
        """What processes that died have left anywhere in the repository."""
        own = (repository.root, repository.backbones.root, *_models(repository))
        return [one for directory in own for one in self.swept(directory)]

    def swept(self, directory: Path) -> list[Garbage]:
        """What processes that died have left in one directory."""
        if not directory.is_dir():
            return []
        with storage.locked(directory):
            found = [
                Garbage(kind="unfinished", name=directory.name, size_bytes=storage.size_of(leftover))
                for leftover in storage.leftovers(directory)
            ]
            if found and not self.dry_run:
                storage.sweep(directory)
        return found

    def cached(self, cache_dir: Path, kept: Set[str]) -> list[Garbage]:
        """What of a cache was not used; graphs and choices of ``kept`` backbones stay."""
        sizes: dict[tuple[Kind, str], int] = {}
        for kind, name, entry in _entries(cache_dir, kept):
            with suppress(FileNotFoundError):  # somebody else removed it
                if storage.last_change(entry) <= self.before:
                    size = storage.size_of(entry)
                    if self.dry_run or _removed(entry):
                        sizes[kind, name] = sizes.get((kind, name), 0) + size
        found = [Garbage(kind=kind, name=name, size_bytes=size) for (kind, name), size in sizes.items()]
        for directory in (*_folders(cache_dir / "graphs"), *_folders(cache_dir / "engines")):
            found += self.swept(directory)
        if not self.dry_run:
            self.remove_empty(cache_dir / "graphs")
            self.remove_empty(cache_dir / "features")
        return found

    def remove_empty(self, directory: Path) -> None:
        """Removes folders that nothing was in for a while: into one that was just emptied, another process may write."""
        for folder in _folders(directory):
            with suppress(OSError):  # it is not empty, or gone
                old = folder.stat().st_mtime <= self.before
                self.remove_empty(folder)
                if old:
                    folder.rmdir()


def _entries(cache_dir: Path, kept: Set[str]) -> Iterator[tuple[Kind, str, Path]]:
    """All that a cache may lose, each with its kind and what it is called: kinds and names may be those of many entries.

    For where they lie see `models.graph_cache`, `models.engine_factory`, `finetune.feature_cache` and `finetune.training.run`.
    """
    for backbone in _folders(cache_dir / "graphs"):
        if backbone.name not in kept:
            yield from (("graph", backbone.name, graph) for graph in _folders(backbone))
    for machine in _folders(cache_dir / "engines"):
        for file in machine.glob("*.json"):
            digest = file.name.partition("-")[0]
            if digest not in kept:
                yield "engine choice", digest, file
    for identity in _folders(cache_dir / "features"):
        yield from (("features", identity.name, file) for file in identity.glob("*/*") if file.is_file())
    yield from (("training run", run.name, run) for run in _folders(cache_dir / "runs"))


def _models(repository: ModelRepository) -> list[Path]:
    """The directories of all models, those without a version too."""
    return [directory for directory in _folders(repository.root) if is_name(directory.name)]


def _folders(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []


def _remove_backbones(repository: ModelRepository, digests: Sequence[str]) -> None:
    store = repository.backbones.root
    # A delete that is not on the disk yet may be undone by a power cut, and the version want its backbone.
    for directory in _models(repository):
        storage.sync_directory(directory)
    dying = [storage.unfinished(store) for _ in digests]
    for digest, out_of_sight in zip(digests, dying, strict=True):
        storage.rename(store / digest, out_of_sight)
    storage.sync_directory(store)  # before anything in them is removed, or a crash could show a part
    for out_of_sight in dying:
        storage.remove(out_of_sight)


def _removed(entry: Path) -> bool:
    """Removes an entry of a cache; False where a process holds it, as a training run does."""
    if not entry.is_dir():
        storage.remove(entry)
        return True
    with storage.locked_if_free(entry) as free:
        if free:
            dying = storage.unfinished(entry.parent)
            storage.rename(entry, dying)
            storage.remove(dying)
        return free
