"""Models by the ids that clients of OpenAI's interface know them by."""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import InvalidParameter, ModelNotFound, did_you_mean, shown
from models.version import Reference
from service.api.backbones import Backbones
from service.api.catalog import Catalog


@dataclass(frozen=True, kw_only=True)
class Addressee:
    """Whom an id means.

    Attributes:
        reference: who answers.
        backbone: the id, where it is a backbone that is asked.
    """

    reference: Reference
    backbone: str | None = None


class ModelIds:
    """Finds models: by name, ``name:number`` or ``name@alias``, and the backbones that are loaded by theirs.

    Args:
        catalog: the models.
        backbones: those that are loaded.
    """

    def __init__(self, catalog: Catalog, backbones: Backbones) -> None:
        self._catalog = catalog
        self._backbones = backbones

    def find(self, text: str) -> Addressee:
        """Whom an id means; a model comes before a backbone of the same name.

        Raises:
            ModelNotFound: nobody, with near matches.
            NotReady: that is not known yet.
        """
        if (known := self._reference(text)) is not None:
            return Addressee(reference=known)
        if (entry := self._backbones.find(text)) is not None:
            return Addressee(reference=Reference(name=entry.name, number=entry.number), backbone=text)
        self._catalog.check_has_looked()
        near = did_you_mean(text[:64], [*self._catalog.models, *self._backbones.names()])
        raise ModelNotFound(f"there is no model '{shown(text)}'{near}")

    def _reference(self, text: str) -> Reference | None:
        try:
            reference = Reference.parse(text)
        except InvalidParameter:  # such as a name on the hub
            return None
        return reference if reference.name in self._catalog.models else None
