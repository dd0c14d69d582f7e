"""Names for versions that an operator moves: ``champion`` answers whoever asks for no version.

Every change may say which version it expects the alias to point to, and is refused where somebody else was quicker
(compare-and-swap).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from models.deployment import CHAMPION, Deployment
from models.errors import BackboneNotFound, Conflict, PromotionRefused, VersionCorrupt
from models.repository import ModelRepository
from models.version import Reference, check_alias

UNSET: Literal["unset"] = "unset"
Expected: TypeAlias = int | Literal["unset"] | None
"""The version that an alias points to before a change, ``unset`` for none, or None: whatever it is."""


@dataclass(frozen=True, kw_only=True)
class AliasChange:
    """What became of an alias; None stands for no version.

    Attributes:
        before: the version that it pointed to.
        now: the version that it points to.
    """

    name: str
    alias: str
    before: int | None
    now: int | None

    def __str__(self) -> str:
        now = "unset" if self.now is None else f"{self.name}:{self.now}"
        was = "" if self.before is None else f", before {self.name}:{self.before}"
        return f"{self.name}@{self.alias} is now {now}{was}"


def promote(
    repository: ModelRepository, reference: Reference, alias: str = CHAMPION, *, expect: Expected = None
) -> AliasChange:
    """Points an alias at an intact version, atomically.

    Raises:
        ModelNotFound, VersionNotFound: there is no such version.
        Conflict: the alias does not point to what was expected.
        PromotionRefused: the version or its backbone is damaged.
        StorageFailed: see `ModelRepository.change_deployment`.
    """

    def change(deployment: Deployment) -> Deployment:
        _check_expected(reference.name, alias, deployment, expect)
        return deployment.with_alias(alias, _intact(repository, reference, alias))

    return _changed(repository, reference.name, alias, change)


def rollback(repository: ModelRepository, name: str, alias: str = CHAMPION, *, expect: Expected = None) -> AliasChange:
    """Points an alias at the version that it pointed to before; once more, at the one before that.

    Versions that were deleted since are passed over.

    Raises:
        ModelNotFound: there is no such model.
        Conflict: there is nothing to go back to, or the alias does not point to what was expected.
        PromotionRefused: the version or its backbone is damaged.
        StorageFailed: see `ModelRepository.change_deployment`.
    """

    def change(deployment: Deployment) -> Deployment:
        _check_expected(name, alias, deployment, expect)
        changed = deployment.rolled_back(alias, frozenset(repository.numbers(name)))
        if changed is None:
            raise Conflict(
                f"{name}@{alias} has pointed to no other version; name one: graftwork models promote {name}:N"
            )
        _intact(repository, Reference(name=name, number=changed.aliases[alias]), alias)
        return changed

    return _changed(repository, name, alias, change)


def unalias(repository: ModelRepository, name: str, alias: str, *, expect: Expected = None) -> AliasChange:
    """Removes an alias; without ``champion``, unaddressed requests go to the newest version.

    Raises:
        ModelNotFound: there is no such model.
        Conflict: the alias does not point to what was expected.
        StorageFailed: see `ModelRepository.change_deployment`.
    """

    def change(deployment: Deployment) -> Deployment:
        _check_expected(name, alias, deployment, expect)
        return deployment.without_alias(alias)

    return _changed(repository, name, alias, change)


def _changed(
    repository: ModelRepository, name: str, alias: str, change: Callable[[Deployment], Deployment]
) -> AliasChange:
    check_alias(alias)
    before, after = repository.change_deployment(name, change)
    return AliasChange(name=name, alias=alias, before=before.aliases.get(alias), now=after.aliases.get(alias))


def _intact(repository: ModelRepository, reference: Reference, alias: str) -> int:
    """The number of a version of which every byte was looked at; raises `PromotionRefused` otherwise."""
    try:
        version = repository.resolve(reference)
        repository.verify(version)
        repository.backbones.verify(version.manifest.backbone.digest)
    except (VersionCorrupt, BackboneNotFound) as error:
        raise PromotionRefused(f"{error.message}; '{alias}' stays as it is") from None
    return version.number


def _check_expected(name: str, alias: str, deployment: Deployment, expect: Expected) -> None:
    if expect is None:
        return
    now = deployment.aliases.get(alias)
    if now != (None if expect == UNSET else expect):
        found = UNSET if now is None else now
        raise Conflict(f"{name}@{alias} is {found}, and not {expect}: somebody else was quicker; look, and try again")
