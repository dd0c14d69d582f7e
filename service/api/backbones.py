"""Backbones by name: each that is loaded is an embedding model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from models.features import FeatureKind
from models.manifest import Manifest
from models.precision import Precision
from service.api.catalog import Catalog
from service.api.catalog_model import CatalogVersion, State

_Identity: TypeAlias = tuple[str, str]  # where it is from, and its digest


class Backbones:
    """Pretrained backbones, as they were before any training, and for each a version that stands on it and is served.

    Its features are those of the backbone, so that whoever asks for the backbone is answered by that version. It stays the
    same one as long as it is served. One that is computed in 8-bit integers is taken before others, so that vectors do not
    change with whatever is published besides; ``--precision fp32`` is for those who want that.

    Args:
        catalog: has the versions.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._by_name: dict[str, CatalogVersion] = {}
        self._by_id: dict[str, CatalogVersion] = {}
        self._seen = -1  # how much had changed when they were looked up

    def names(self) -> Mapping[str, CatalogVersion]:
        """Those that are loaded, by name."""
        if self._seen != self._catalog.changes or not all(map(self._is_served, self._by_name.values())):
            self._seen = self._catalog.changes
            self._by_name = self._looked_up()
        return self._by_name

    def find(self, name: str) -> CatalogVersion | None:
        """The version that answers for a backbone.

        Args:
            name: as `names` has it, or as it is on the hub, such as ``BAAI/bge-small-en``.
        """
        entry = self._by_id.get(name)
        if entry is None or not self._is_served(entry):
            self.names()
            entry = self._by_id.get(name)
        return entry

    def _looked_up(self) -> dict[str, CatalogVersion]:
        found: dict[_Identity, CatalogVersion] = {}
        for model in self._catalog.models.values():
            for entry in model.versions.values():
                if self._is_served(entry) and has_features_of_its_backbone(entry):
                    identity = _identity(entry)
                    if identity not in found or _rank(entry) < _rank(found[identity]):
                        found[identity] = entry
        before = {_identity(entry): entry for entry in self._by_name.values() if self._is_served(entry)}
        found |= {identity: entry for identity, entry in before.items() if identity in found}
        names = _names(found)
        # On the hub, its name has an owner too.
        self._by_id = {source: found[source, digest] for source, digest in names if _is_alone(source, names)}
        self._by_id |= {name: found[identity] for identity, name in names.items()}
        return {name: found[identity] for identity, name in sorted(names.items(), key=lambda each: each[1])}

    def _is_served(self, entry: CatalogVersion) -> bool:
        if not (entry.is_served and entry.is_kept):
            return False
        model = self._catalog.models.get(entry.name)
        return model is not None and model.versions.get(entry.number) is entry


def embeds(manifest: Manifest) -> bool:
    """Whether a version's backbone gives one vector a row, and not one a word."""
    return manifest.kind is FeatureKind.POOLED


def has_features_of_its_backbone(entry: CatalogVersion) -> bool:
    """Whether a version's features are those of a pretrained backbone, which no training has changed."""
    assert entry.version is not None
    manifest = entry.version.manifest
    training = manifest.reference.training
    return embeds(manifest) and (training is None or training.strategy == "probe")


def _names(known: Iterable[_Identity]) -> dict[_Identity, str]:
    """The last part of each source; where several have the same, the whole source, or the start of the digest behind it."""
    short = {(source, digest): source.rpartition("/")[2] for source, digest in known}
    return {
        (source, digest): name
        if list(short.values()).count(name) == 1
        else source
        if source != name and _is_alone(source, short)
        else f"{name}-{digest[:8]}"
        for (source, digest), name in short.items()
    }


def _is_alone(source: str, known: Iterable[_Identity]) -> bool:
    return [other for other, _ in known].count(source) == 1


def _identity(entry: CatalogVersion) -> _Identity:
    assert entry.backbone is not None
    return _source(entry), entry.backbone


def _source(entry: CatalogVersion) -> str:
    assert entry.version is not None
    return entry.version.manifest.backbone.public_source.partition(":")[2]


def _rank(entry: CatalogVersion) -> tuple[bool, bool, str, int]:
    """The lowest one is taken."""
    is_int8 = entry.serving is not None and entry.serving.precision == Precision.INT8
    return entry.state is not State.READY, not is_int8, entry.name, entry.number
