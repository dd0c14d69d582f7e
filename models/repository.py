"""Model versions on disk: published atomically, numbered for ever, verified byte by byte.

<root>/<name>/<number>/         one immutable version
<root>/<name>/deployment.json   aliases, and what a server keeps loaded
<root>/<name>/.highest          the highest number that was ever given out, written before its version is deleted
<root>/<name>/.staging-*        a publish that is under way, or that died
<root>/.generation              changes with every publish, alias change and delete: the only file a server polls
<root>/.backbones/<digest>/     see `models.backbone_store`
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from models import deployment as deployment_schema
from models import manifest as manifest_schema
from models import storage
from models.backbone_store import BackboneStore
from models.deployment import CHAMPION, Deployment
from models.errors import ModelNotFound, VersionCorrupt, VersionInUse, VersionNotFound, did_you_mean, shown
from models.manifest import FileEntry, Manifest
from models.version import NUMBER, ModelVersion, Reference, check_name, is_name

MANIFEST = "manifest.json"
BACKBONES = ".backbones"
CANNOT_WRITE = "the model repository cannot be written"


class ModelRepository:
    """The versions under one root directory.

    Args:
        root: need not exist yet; only a publish creates it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.backbones = BackboneStore(root / BACKBONES)

    # Reading

    def generation(self) -> bytes:
        """Some bytes that differ whenever anything was published, aliased or deleted in between."""
        try:
            return (self.root / ".generation").read_bytes()
        except FileNotFoundError:
            return b""

    def all_numbers(self) -> Mapping[str, Sequence[int]]:
        """The version numbers of each model with at least one version, ascending; models in order."""
        if not self.root.is_dir():
            return {}
        found = {name: self.numbers(name) for name in sorted(os.listdir(self.root)) if is_name(name)}
        return {name: numbers for name, numbers in found.items() if numbers}

    def names(self) -> Sequence[str]:
        """Models with at least one version, in order."""
        return list(self.all_numbers())

    def numbers(self, name: str) -> Sequence[int]:
        """The version numbers of a model on disk, ascending; none for an unknown model."""
        directory = self._directory(name)
        if not directory.is_dir():
            return []
        with os.scandir(directory) as entries:  # one system call for all: there may be ten thousand models
            return sorted(int(entry.name) for entry in entries if NUMBER.fullmatch(entry.name) and entry.is_dir())

    def deployment(self, name: str) -> Deployment:
        """The aliases of a model.

        Raises:
            VersionCorrupt: the file is damaged, or is of another schema.
        """
        file = self._directory(name) / "deployment.json"
        try:
            return Deployment.model_validate_json(storage.read_file(file))
        except FileNotFoundError:
            return Deployment()
        except (OSError, ValidationError):
            _refuse_other_schema(file, f"the aliases of '{name}'", [deployment_schema.SCHEMA_VERSION])
            raise VersionCorrupt(f"the aliases of '{name}' are damaged; delete its deployment.json") from None

    def resolve(self, reference: Reference) -> ModelVersion:
        """The version that a reference points to: a number, an alias, else ``champion``, else the newest.

        Raises:
            ModelNotFound: no such model, with near matches.
            VersionNotFound: no such number or alias.
            VersionCorrupt: its manifest cannot be read.
        """
        return self.read(reference.name, self._number(reference))

    def existing_numbers(self, name: str) -> Sequence[int]:
        """As `numbers`, of a model that there must be; raises `ModelNotFound` otherwise, with near matches."""
        numbers = self.numbers(name)
        if not numbers:
            raise ModelNotFound(f"there is no model '{name}'{did_you_mean(name, self.names())}")
        return numbers

    def _number(self, reference: Reference) -> int:
        numbers = self.existing_numbers(reference.name)
        number = reference.number
        if number is None:
            aliases = self.deployment(reference.name).aliases
            if reference.alias is not None and reference.alias not in aliases:
                hint = did_you_mean(reference.alias, aliases)
                raise VersionNotFound(f"'{reference.name}' has no alias '{reference.alias}'{hint}")
            number = aliases.get(reference.alias or CHAMPION, numbers[-1])
        if number not in numbers:
            raise VersionNotFound(f"there is no version {number} of '{reference.name}'; it has {_ranges(numbers)}")
        return number

    def _directory(self, name: str) -> Path:
        return self.root / check_name(name)

    def read(self, name: str, number: int) -> ModelVersion:
        """A version with its manifest, unverified.

        Raises:
            VersionNotFound: it is not on disk.
            VersionCorrupt: its manifest cannot be read, or is of another schema.
        """
        directory = self._directory(name) / str(number)
        if directory.is_symlink() or directory.parent.is_symlink():
            raise VersionCorrupt(f"{name}:{number} is a symbolic link; put the version itself there")
        try:
            manifest = Manifest.model_validate_json(storage.read_file(directory / MANIFEST))
        except OSError:
            if not directory.is_dir():
                raise VersionNotFound(f"there is no version {number} of '{name}'") from None
            raise VersionCorrupt(f"{name}:{number} has no readable manifest; publish the model again") from None
        except ValidationError as error:
            _refuse_other_schema(directory / MANIFEST, f"{name}:{number}", manifest_schema.SCHEMAS)
            fields = _damaged_fields(error)
            raise VersionCorrupt(
                f"the manifest of {name}:{number} is damaged ({fields}); publish the model again"
            ) from None
        if (manifest.name, manifest.number) != (name, number):
            raise VersionCorrupt(f"the manifest of {name}:{number} is that of {shown(manifest.name)}:{manifest.number}")
        return ModelVersion(name=name, number=number, directory=directory, manifest=manifest)

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Every readable version of a model, ascending; damaged ones are left out."""
        found = []
        for number in self.numbers(name):
            try:
                found.append(self.read(name, number))
            except (VersionCorrupt, VersionNotFound):
                continue
        return found

    def verify(self, version: ModelVersion) -> None:
        """Reads every byte of a version.

        Raises:
            VersionCorrupt: a file is missing, damaged or extra.
        """
        found = set(storage.files_below(version.directory))
        wanted = set(version.manifest.files) | {MANIFEST}
        for kind, names in (("missing", wanted - found), ("not in the manifest", found - wanted)):
            if names:
                raise VersionCorrupt(f"{version}: {shown(min(names))} is {kind}; publish the model again")
        for name, entry in version.manifest.files.items():
            with suppress(OSError):  # unreadable, a link, or deleted meanwhile
                if storage.sha256_file(version.directory / name) == entry.sha256:
                    continue
            raise VersionCorrupt(f"{version}: {name} is damaged; publish the model again")

    # Writing

    def publish(
        self,
        manifest: Manifest,
        files: dict[str, bytes],
        *,
        check: Callable[[Path], None],
        finish: Callable[[int], dict[str, bytes]] | None = None,
    ) -> ModelVersion:
        """Publishes a version: staged beside the others, checked, then given its name by one rename.

        Args:
            manifest: with any number and no files; both are filled in here.
            files: contents by relative path.
            check: called with the staged directory; raises when what lies there must not be published.
            finish: gives further files that name the version's number, such as the model card.

        Raises:
            BackboneNotFound: the version's backbone is not there, or is not any more; nothing was published.
            StorageFailed: the disk is full or read-only. The repository holds the whole version or nothing of it, and
                the message says so where it is the whole version that no server was told of.
        """
        directory = self._directory(manifest.name)
        with storage.reporting(CANNOT_WRITE):
            storage.make_directory(directory)
            with storage.staging(directory) as staging:
                _stage(staging, files)
                check(staging)
                with storage.locked(directory):
                    with self.backbones.held(manifest.backbone.digest):
                        version = self._finish_publish(manifest, files, staging, finish)
                    with storage.reporting(f"{version} is published, but running servers may not know of it yet"):
                        storage.sync_directory(directory)
                        self._bump_generation()
        return version

    def _finish_publish(
        self,
        manifest: Manifest,
        files: dict[str, bytes],
        staging: Path,
        finish: Callable[[int], dict[str, bytes]] | None,
    ) -> ModelVersion:
        name = manifest.name
        number = self._highest_number(name) + 1
        late = finish(number) if finish is not None else {}
        _stage(staging, late)
        entries = {path: _entry(data) for path, data in sorted({**files, **late}.items())}
        manifest = manifest.model_copy(update={"number": number, "files": entries})
        storage.write_file(staging / MANIFEST, manifest.model_dump_json(indent=1).encode())
        storage.sync_directory(staging)
        target = self.root / name / str(number)
        storage.rename(staging, target)
        return ModelVersion(name=name, number=number, directory=target, manifest=manifest)

    def change_deployment(self, name: str, change: Callable[[Deployment], Deployment]) -> tuple[Deployment, Deployment]:
        """Replaces a model's deployment, atomically; nothing is written where nothing changes.

        Args:
            name: of the model.
            change: from the deployment that is there to the one that shall be; called while nobody else can change it, and
                raises to leave it as it is.

        Returns:
            The deployment before and after.

        Raises:
            ModelNotFound: there is no such model.
            VersionCorrupt: the deployment that is there cannot be read.
            StorageFailed: the disk is full or read-only; the old deployment holds, or the new one.
        """
        self.existing_numbers(name)
        directory = self._directory(name)
        with storage.reporting(CANNOT_WRITE), storage.locked(directory):
            before = self.deployment(name)
            after = change(before)
            if after != before:
                storage.replace_file(directory / "deployment.json", after.model_dump_json().encode())
            with storage.reporting(f"the change to '{name}' holds, but running servers may not know of it yet"):
                self._bump_generation()  # also where nothing changed: a change may have ended just before it
        return before, after

    def delete(self, reference: Reference) -> Reference:
        """Removes one version, be it damaged; its number is never given out again.

        Returns:
            The version that is gone, by number.

        Raises:
            ModelNotFound, VersionNotFound: there is no such version.
            VersionInUse: an alias points to it.
            StorageFailed: the disk is full or read-only.
        """
        self.existing_numbers(reference.name)
        directory = self._directory(reference.name)
        with storage.reporting(CANNOT_WRITE), storage.locked(directory):
            number = self._number(reference)
            version = Reference(name=reference.name, number=number)
            aliases = [a for a, n in self.deployment(version.name).aliases.items() if n == number]
            if aliases:
                raise VersionInUse(f"{version} is '{aliases[0]}'; point that alias elsewhere first")
            storage.replace_file(directory / ".highest", str(self._highest_number(version.name)).encode())
            # Out of sight in one step; what an error or a kill leaves after it is swept by the next publish.
            dying = storage.unfinished(directory)
            storage.rename(directory / str(number), dying)
            with storage.reporting(f"{version} is deleted, but running servers may not know of it yet"):
                storage.sync_directory(directory)  # before anything in it is removed, or a crash could show a part
                with suppress(OSError):
                    storage.remove(dying)
                self._bump_generation()
        return version

    def _highest_number(self, name: str) -> int:
        file = self._directory(name) / ".highest"
        ever = int(file.read_text()) if file.is_file() else 0
        return max([ever, *self.numbers(name)])

    def announce(self) -> None:
        """Makes running servers look again at all that is here; raises `OSError`."""
        self._bump_generation()

    def _bump_generation(self) -> None:
        with storage.locked(self.root):
            storage.sweep(self.root)
            storage.replace_file(self.root / ".generation", secrets.token_hex(8).encode())


def _stage(staging: Path, files: dict[str, bytes]) -> None:
    folders = sorted({staging / folder for path in files for folder in Path(path).parents})
    for folder in folders:
        storage.make_directory(folder)
    for path, data in files.items():
        storage.write_file(staging / path, data)
    for folder in folders:
        storage.sync_directory(folder)


def _entry(data: bytes) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def _damaged_fields(error: ValidationError) -> str:
    """Those of a manifest's own fields that do not hold: whatever else stands there may be anybody's word."""
    found = {str(each["loc"][0]) for each in error.errors(include_input=False) if each["loc"]}
    return ", ".join(sorted(found & Manifest.model_fields.keys())) or "syntax"


def _refuse_other_schema(file: Path, what: str, ours: Sequence[int]) -> None:
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        found = json.loads(storage.read_file(file))["schema_version"]
        if isinstance(found, int) and found not in ours:
            newer = found > ours[-1]
            cure = "upgrade graftwork" if newer else "run: graftwork models migrate"
            raise VersionCorrupt(f"{what}: written in schema {found}, this is {ours[-1 if newer else 0]}; {cure}")


def _ranges(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) <= 8 else f"{numbers[0]} to {numbers[-1]}"
