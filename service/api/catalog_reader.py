"""What is in the repository, read for a server that knows some of it already."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

from models.deployment import Deployment
from models.errors import VersionCorrupt, VersionNotFound
from models.repository import ModelRepository
from service.api.catalog_model import CatalogModel, CatalogVersion, State

logger = logging.getLogger(__name__)


class CatalogReader:
    """Reads models; in a thread, for disks may be slow.

    Args:
        repository: where they are.
    """

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    def read(self, known: Mapping[str, CatalogModel]) -> dict[str, CatalogModel]:
        """Every model on disk.

        Args:
            known: those that were read before: their versions are taken over, but for those that failed, as versions are
                immutable; and where a deployment is damaged, that one stays. Of a model that is as it was, it is the same object.
        """
        models, sizes = {}, dict[str, int]()
        for name, numbers in self._repository.all_numbers().items():
            before, model = known.get(name) or CatalogModel(), CatalogModel()
            for number in numbers:
                version = before.versions.get(number)
                if version is None or version.state is State.FAILED:
                    with suppress(VersionNotFound):  # deleted since
                        model.versions[number] = self._version(name, number, sizes)
                else:
                    model.versions[number] = version
            if model.versions:
                model.deployment = self._deployment(name, before.deployment)
                is_as_it_was = (model.versions, model.deployment) == (before.versions, before.deployment)
                models[name] = before if is_as_it_was else model
        return models

    def _version(self, name: str, number: int, sizes: dict[str, int]) -> CatalogVersion:
        try:
            version = self._repository.read(name, number)
        except VersionCorrupt as error:
            return CatalogVersion(name=name, number=number, version=None, reason=error.message)
        digest = version.manifest.backbone.digest
        if digest not in sizes:
            sizes[digest] = self._repository.backbones.size_bytes(digest)
        return CatalogVersion(name=name, number=number, version=version, backbone_bytes=sizes[digest])

    def _deployment(self, name: str, before: Deployment) -> Deployment:
        try:
            return self._repository.deployment(name)
        except VersionCorrupt as error:
            logger.error("%s; they stay as they were", error)
            return before
