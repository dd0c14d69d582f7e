"""Which backbones the versions of a repository stand on, be their manifests damaged or of another schema."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from models.errors import VersionCorrupt, VersionNotFound
from models.repository import MANIFEST, ModelRepository

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True, kw_only=True)
class BackboneUse:
    """What versions say of their backbones.

    Attributes:
        digests: of all backbones that a version may stand on.
        untold: versions such as ``flowers:3`` that do not say which is theirs: it may be any.
    """

    digests: Set[str]
    untold: tuple[str, ...]

    def needs(self, digest: str) -> bool:
        """Whether a version may stand on a backbone."""
        return bool(self.untold) or digest in self.digests


def backbones_in_use(repository: ModelRepository) -> BackboneUse:
    """Looks through all manifests.

    Of one that cannot be read as a manifest but as JSON, such as that of another schema, every digest in it counts, as long as
    one stands where all schemas so far have that of the backbone. Any other does not tell.
    """
    digests: set[str] = set()
    untold: list[str] = []
    for name in repository.names():
        for number in repository.numbers(name):
            try:
                digests.add(repository.read(name, number).manifest.backbone.digest)
            except VersionCorrupt:
                found = _digests_in(repository.root / name / str(number) / MANIFEST)
                digests |= found
                untold += [] if found else [f"{name}:{number}"]
            except VersionNotFound:  # deleted meanwhile
                continue
    return BackboneUse(digests=digests, untold=tuple(untold))


def _digests_in(manifest: Path) -> set[str]:
    """The digests in a document; none where that of the backbone is not in its place."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        text = manifest.read_text()
        if _DIGEST.fullmatch(json.loads(text)["backbone"]["digest"]):
            return set(_DIGEST.findall(text))
    return set()
