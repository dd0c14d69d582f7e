"""Backbones by name: each that is loaded is an embedding model."""

from __future__ import annotations

from collections.abc import Mapping

from models.features import FeatureKind
from models.manifest import Manifest
from models.precision import Precision
from service.api.catalog import Catalog
from service.api.catalog_model import CatalogVersion, State


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
        short = name.rpartition("/")[2]
        entry = self._by_name.get(short)
        if entry is None or not self._is_served(entry):
            entry = self.names().get(short)
        if entry is None or (short != name and _source(entry) != name):
            return None
        return entry

    def _looked_up(self) -> dict[str, CatalogVersion]:
        found: dict[str, CatalogVersion] = {}
        for model in self._catalog.models.values():
            for entry in model.versions.values():
                if not self._is_served(entry) or not has_features_of_its_backbone(entry):
                    continue
                name = _source(entry).rpartition("/")[2]
                if name not in found or _rank(entry) < _rank(found[name]):
                    found[name] = entry
        before = {name: entry for name, entry in self._by_name.items() if name in found and self._is_served(entry)}
        return dict(sorted({**found, **before}.items()))

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


def _source(entry: CatalogVersion) -> str:
    assert entry.version is not None
    return entry.version.manifest.backbone.public_source.partition(":")[2]


def _rank(entry: CatalogVersion) -> tuple[bool, bool, str, int]:
    """The lowest one is taken."""
    is_int8 = entry.serving is not None and entry.serving.precision == Precision.INT8
    return entry.state is not State.READY, not is_int8, entry.name, entry.number
