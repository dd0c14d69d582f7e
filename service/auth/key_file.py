"""The keys on disk: one JSON file, replaced atomically, that its owner alone can read."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models import storage
from models.errors import KeyFileInvalid, KeyNotFound, did_you_mean
from service.auth.key import Key, Scope, State, check_key_name, digest, id_of, new_secret

FILE_NAME = ".keys.json"  # in the repository, unless it lies elsewhere
SCHEMA_VERSION = 1

_MODE = 0o600
_OTHERS = 0o077
_CANNOT_WRITE = "the key file cannot be written"


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _ids_are_distinct(self) -> _Content:
        if len({key.id for key in self.keys}) < len(self.keys):
            raise ValueError("two keys have one id")
        return self


class KeyFile:
    """The keys of a server.

    Args:
        path: need not exist yet; without it there are no keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def stamp(self) -> tuple[int, ...] | None:
        """Some numbers that differ after every change; nothing where there is no file.

        Raises:
            KeyFileInvalid: it cannot be seen.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error) from None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def read(self) -> Sequence[Key]:
        """All keys that were ever made, oldest first, whatever their state.

        Raises:
            KeyFileInvalid: others can read or write the file, or it cannot be read, or is damaged.
        """
        name = self._path.name
        try:
            with self._path.open("rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & _OTHERS:
                    raise KeyFileInvalid(f"{name} holds the keys, and others have access to it; run: chmod 600 {name}")
                content = file.read()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unreadable(error) from None
        try:
            return _Content.model_validate_json(content).keys
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, each["loc"])) or "syntax" for each in error.errors()[:3])
            raise KeyFileInvalid(f"{name}, which holds the keys, is damaged ({fields}); restore it") from None

    def _unreadable(self, error: OSError) -> KeyFileInvalid:
        name, reason = self._path.name, error.strerror
        return KeyFileInvalid(
            f"{name}, which holds the keys, cannot be read: {reason}; it must belong to who runs the server"
        )

    def active(self) -> Sequence[Key]:
        """The keys that open something now; raises as `read`."""
        now = datetime.now(UTC)
        return [key for key in self.read() if key.state(now) is State.ACTIVE]

    def create(
        self,
        name: str,
        scopes: Sequence[Scope],
        *,
        requests_per_second: float | None = None,
        lifetime: timedelta | None = None,
    ) -> tuple[Key, str]:
        """Makes a key.

        Returns:
            It, and its secret, which is kept nowhere.

        Raises:
            InvalidParameter: no key can have that name.
            KeyFileInvalid: as `read`.
            StorageFailed: the disk is full or read-only.
        """
        check_key_name(name)
        now = datetime.now(UTC)
        with storage.reporting(_CANNOT_WRITE):
            storage.make_directory(self._path.parent)
            with storage.locked(self._path.parent):
                keys = self.read()
                taken = {key.id for key in keys}
                secret = new_secret()
                while id_of(secret.encode()).decode() in taken:
                    secret = new_secret()
                key = Key(
                    id=id_of(secret.encode()).decode(),
                    name=name,
                    sha256=digest(secret.encode()).hex(),
                    scopes=tuple(sorted(set(scopes), key=list(Scope).index)),
                    requests_per_second=requests_per_second,
                    created_at=now,
                    expires_at=None if lifetime is None else now + lifetime,
                )
                self._write([*keys, key])
        return key, secret

    def revoke(self, key_id: str) -> Key:
        """Marks a key as revoked; one that is revoked stays as it is.

        Raises:
            KeyNotFound: there is none of that id, with near matches.
            KeyFileInvalid: as `read`.
            StorageFailed: the disk is full or read-only.
        """
        if not self._path.parent.is_dir():
            raise KeyNotFound(f"there is no key '{key_id[:64]}'")
        with storage.reporting(_CANNOT_WRITE), storage.locked(self._path.parent):
            keys = {key.id: key for key in self.read()}
            if key_id not in keys:
                raise KeyNotFound(f"there is no key '{key_id[:64]}'{did_you_mean(key_id[:64], keys)}")
            if keys[key_id].revoked_at is None:
                keys[key_id] = keys[key_id].model_copy(update={"revoked_at": datetime.now(UTC)})
                self._write(list(keys.values()))
        return keys[key_id]

    def _write(self, keys: Sequence[Key]) -> None:
        content = _Content(keys=tuple(keys)).model_dump_json(indent=1).encode()
        storage.replace_file(self._path, content, mode=_MODE)


def open_key_file(path: Path | None, repository: Path) -> KeyFile:
    """The key file that a user named, or the repository's own."""
    return KeyFile(path or repository / FILE_NAME)
