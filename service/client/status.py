"""What is served of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One version.

    Attributes:
        state: ``unloaded``, ``loading``, ``ready``, ``on-demand`` or ``failed``.
        reason: why it failed.
    """

    version: int
    state: str
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """One model.

    Attributes:
        ready: whether any version is.
        default_version: that answers where none is named; None where there is none yet.
        aliases: the versions that they lead to.
        keep: which versions are kept loaded, beside aliased ones.
    """

    name: str
    ready: bool
    default_version: int | None
    aliases: Mapping[str, int]
    keep: str
    versions: tuple[VersionStatus, ...]


def parse_status(document: Mapping[str, Any]) -> ModelStatus:
    """Reads the answer of ``/v1/models/{name}``.

    Raises:
        KeyError, TypeError: it is no such answer.
    """
    return ModelStatus(
        name=document["name"],
        ready=document["ready"],
        default_version=document["default_version"],
        aliases=document["aliases"],
        keep=document["keep"],
        versions=tuple(
            VersionStatus(version=each["version"], state=each["state"], reason=each.get("reason"))
            for each in document["versions"]
        ),
    )
