"""Which models there are, in one document for clients of KServe's V1 protocol and for those of OpenAI's interface."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from msgspec import to_builtins
from starlette.requests import Request
from starlette.responses import Response

from models.task import Task
from models.version import Reference, check_name
from service.api.backbones import Backbones, embeds
from service.api.catalog import Catalog
from service.api.catalog_model import CatalogModel, CatalogVersion
from service.api.declaration import route
from service.api.model_ids import ModelIds
from service.auth.key import Scope as KeyScope

OWNER = "graftwork"


class ModelRoutes:
    """The handlers of ``/v1/models`` that only tell.

    Args:
        catalog: the models.
        backbones: those that are loaded.
        ids: of both.
    """

    def __init__(self, catalog: Catalog, backbones: Backbones, ids: ModelIds) -> None:
        self._catalog = catalog
        self._backbones = backbones
        self._ids = ids

    @route("GET", "/v1/models", scope=KeyScope.METADATA)
    async def list_models(self, request: Request) -> Response:
        """``GET /v1/models``: the names of all models; and everything that can be asked, by its id."""
        return _json({"models": sorted(self._catalog.models), "object": "list", "data": list(self._cards())})

    def _cards(self) -> Iterator[dict[str, object]]:
        for name, model in sorted(self._catalog.models.items()):
            served = {number: entry for number, entry in sorted(model.versions.items()) if entry.is_served}
            if model.default in served:
                yield _card(name, served[model.default])
            for entry in served.values():
                yield _card(str(entry), entry)
        for name, entry in self._backbones.names().items():
            if name not in self._catalog.models:
                yield _card(name, entry, Task.EMBEDDING)

    @route("GET", "/v1/models/{id:model_id}", scope=KeyScope.METADATA)
    async def model_status(self, request: Request) -> Response:
        """``GET /v1/models/{id}``: a model, its versions and their states; one version (``flowers:3``); or a backbone."""
        addressee = self._ids.find(request.path_params["id"])
        name = addressee.reference.name
        if addressee.backbone is not None:
            return _json(_card(addressee.backbone, self._catalog.entry(addressee.reference), Task.EMBEDDING))
        if str(addressee.reference) != name:
            entry = self._catalog.entry(addressee.reference)
            return _json({**_card(str(entry), entry), "name": name, "version": entry.number, "state": entry.state})
        model = self._catalog.model(name)
        asked = None if model.default is None else model.versions.get(model.default)
        return _json({"name": name, **_status(model), **(_card(name, asked) if asked and asked.is_served else {})})

    @route("GET", "/v1/models/{name:model}/metadata", scope=KeyScope.METADATA)
    async def model_metadata(self, request: Request) -> Response:
        """``GET /v1/models/{name}/metadata``: of the version that an unaddressed request would get, and how it is computed."""
        entry = self._catalog.entry(Reference(name=check_name(request.path_params["name"])))
        assert entry.version is not None
        manifest = entry.version.manifest
        document = manifest.model_dump(mode="json")
        document["backbone"]["source"] = manifest.backbone.public_source
        return _json({**document, "serving": to_builtins(entry.serving)})


def _card(id_: str, entry: CatalogVersion, task: Task | None = None) -> dict[str, object]:
    """What OpenAI's clients read of a model (the first four), and what helps to choose one."""
    assert entry.version is not None
    manifest = entry.version.manifest
    card: dict[str, object] = {
        "id": id_,
        "object": "model",
        "created": int(manifest.created_at.timestamp()),
        "owned_by": OWNER,
        "task": task or manifest.task,
        "modality": manifest.modality,
    }
    return {**card, "dimensions": manifest.backbone.feature_dim} if embeds(manifest) else card


def _status(model: CatalogModel) -> dict[str, object]:
    return {
        "ready": any(entry.is_served for entry in model.versions.values()),
        "default_version": model.default,
        "aliases": model.routes,
        "keep": model.deployment.keep,
        "versions": [
            {"version": number, "state": entry.state, **({"reason": entry.reason} if entry.reason else {})}
            for number, entry in sorted(model.versions.items())
        ],
    }


def _json(document: object) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
