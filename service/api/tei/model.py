"""The one model that TEI's routes speak for."""

from __future__ import annotations

from enum import StrEnum

from models.backbone import Modality
from models.errors import ModelNotFound, NotReady, UnsuitableModel
from models.manifest import Manifest
from models.task import Task
from models.version import Reference
from service.api.backbones import Backbones
from service.api.catalog import Catalog
from service.api.catalog_model import CatalogVersion
from service.api.model_ids import Addressee, ModelIds

NAME_IT = "graftwork serve --tei-model NAME"


class ModelKind(StrEnum):
    """What TEI has models for."""

    EMBEDDING = "embedding"
    CLASSIFIER = "classifier"
    RERANKER = "reranker"


def model_kind(manifest: Manifest, backbone: str | None) -> ModelKind:
    """Which kind a model is.

    Args:
        backbone: its name, where it is the backbone that is asked.

    Raises:
        UnsuitableModel: there is none that it could be.
    """
    if manifest.modality is not Modality.TEXT:
        raise UnsuitableModel(f"{manifest.name} reads images, and these routes texts; name another model: {NAME_IT}")
    if backbone is not None or manifest.task is Task.EMBEDDING:
        return ModelKind.EMBEDDING
    if manifest.task is Task.TOKEN_CLASSIFICATION:
        raise UnsuitableModel(
            f"{manifest.name} labels words, which has no form here; ask /v1/models/{manifest.name}:predict, "
            f"or name another model: {NAME_IT}"
        )
    if manifest.task is Task.REGRESSION and manifest.pair is not None:
        return ModelKind.RERANKER
    return ModelKind.CLASSIFIER


class TeiModel:
    """Finds it: the one that was named, else the language backbone that is loaded; others that are loaded later change nothing.

    Args:
        named: its id, as `ModelIds` has it.
        ids: of models and backbones.
        backbones: those that are loaded.
        catalog: the models.
    """

    def __init__(self, named: str | None, ids: ModelIds, backbones: Backbones, catalog: Catalog) -> None:
        self._named = named
        self._ids = ids
        self._backbones = backbones
        self._catalog = catalog
        self._found = ""  # the only one that there was, which stays the one that is meant

    def find(self) -> Addressee:
        """Who answers now.

        Raises:
            NotReady: nobody yet.
            UnsuitableModel: there is no such model, or nobody was named and there are several.
        """
        if self._named is not None:
            try:
                return self._ids.find(self._named)
            except ModelNotFound as error:
                if (reason := self._catalog.not_ready_reason()) is not None:  # a backbone is there once it is loaded
                    raise NotReady(f"{reason}; try again") from None
                raise UnsuitableModel(f"{error.message}; it is what --tei-model names") from None
        found = {name: entry for name, entry in self._backbones.names().items() if _reads_texts(entry)}
        if not found:
            reason = self._catalog.not_ready_reason() or "no language backbone is loaded"
            raise NotReady(f"{reason}; try again, publish a model that reads texts, or name one: {NAME_IT}")
        if self._found in found:
            found = {self._found: found[self._found]}
        if len(found) > 1:
            raise UnsuitableModel(
                f"several backbones are loaded ({', '.join(found)}); say which one is meant: {NAME_IT}"
            )
        ((name, entry),) = found.items()
        self._found = name
        return Addressee(reference=Reference(name=entry.name, number=entry.number), backbone=name)


def _reads_texts(entry: CatalogVersion) -> bool:
    assert entry.version is not None
    return entry.version.manifest.modality is Modality.TEXT
