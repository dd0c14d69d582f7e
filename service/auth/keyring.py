"""The keys in memory, and the file that they follow."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from models.errors import GraftworkError, KeyFileInvalid, Unauthorized
from service.auth.key import Key, Scope, digest, id_of
from service.auth.key_file import KeyFile
from service.auth.rate_limit import RateLimit

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0

_NOBODY = bytes(32)  # what the digest of a credential without a key is compared to; no SHA-256 that anyone knows
# Always this one, so that nobody learns what was wrong.
_UNAUTHORIZED = "this server asks for a key that it knows; send one as Authorization: Bearer KEY"


@dataclass(frozen=True, kw_only=True)
class HeldKey:
    """A key that opens something.

    Attributes:
        expires_at: seconds since 1970.
        limit: how often it may ask; nothing is as often as it likes.
    """

    id: str
    digest: bytes
    scopes: frozenset[Scope]
    expires_at: float
    limit: RateLimit | None


class Keyring:
    """The keys that a running server knows; follows their file.

    Once there was a key, be it revoked or expired, requests need one for as long as the process lives, whatever becomes of the
    file: the end of the last key closes a server, and does not open it, not even when it starts again.

    Args:
        file: read at once.

    Attributes:
        is_closed: whether requests need a key.

    Raises:
        KeyFileInvalid: the file must not be used as it is.
    """

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        self._keys: Mapping[bytes, HeldKey] = {}
        self._complaint = ""
        self.is_closed = False
        self._stamp = file.stamp()  # before it is read: what changes meanwhile is read again
        self._take(file.read())

    def find(self, credential: bytes) -> HeldKey:
        """The key whose secret was shown.

        Raises:
            Unauthorized: there is none, or it has expired: with one message, after the same work.
        """
        key = self._keys.get(id_of(credential))
        is_right = hmac.compare_digest(digest(credential), _NOBODY if key is None else key.digest)
        if key is None or not is_right or key.expires_at <= time.time():
            raise Unauthorized(_UNAUTHORIZED)
        return key

    async def follow(self) -> None:
        """Looks for changes each second, for ever."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """Takes in what changed in the file; while it is gone, damaged or not private, the keys stay as they were."""
        try:
            stamp = await asyncio.to_thread(self._file.stamp)
            if stamp != self._stamp:
                if stamp is None and self._keys:
                    raise KeyFileInvalid("it is gone; to revoke keys: graftwork keys revoke")
                self._take(await asyncio.to_thread(self._file.read))
                self._stamp = stamp
            self._complaint = ""
        except Exception as error:  # whatever it is, a later look must find what is revoked
            if str(error) != self._complaint:  # once, not each second
                unforeseen = not isinstance(error, GraftworkError)
                logger.error("the key file is not used, and keys stay as they were: %s", error, exc_info=unforeseen)
            self._complaint = str(error)

    def _take(self, keys: Sequence[Key]) -> None:
        before = self._keys
        held = [_held(key, before) for key in keys if key.revoked_at is None]
        self._keys = {key.id.encode(): key for key in held}
        self.is_closed = self.is_closed or bool(keys)
        if self.is_closed:
            logger.info("requests need a key; %d of %d are not revoked", len(held), len(keys))


def _held(key: Key, before: Mapping[bytes, HeldKey]) -> HeldKey:
    """The key as it is looked up; who was over its rate still is after the file has changed."""
    old = before.get(key.id.encode())
    limit = None if old is None else old.limit
    if key.requests_per_second is None:
        limit = None
    elif limit is None or limit.requests_per_second != key.requests_per_second:
        limit = RateLimit(key.requests_per_second)
    return HeldKey(
        id=key.id,
        digest=bytes.fromhex(key.sha256),
        scopes=frozenset(key.scopes),
        expires_at=inf if key.expires_at is None else key.expires_at.timestamp(),
        limit=limit,
    )
