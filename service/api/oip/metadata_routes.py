"""``GET /v2`` and what is below it: metadata, readiness and configuration of models."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response

from models.errors import NotSupported
from service.api.catalog import Catalog
from service.api.catalog_model import CatalogModel, CatalogVersion
from service.api.declaration import route
from service.api.oip.address import reference
from service.api.oip.metadata import Document, model_config, model_metadata, server_metadata
from service.auth.key import Scope

_MEMORY = ("/v2/systemsharedmemory/{rest:path}", "/v2/cudasharedmemory/{rest:path}")
_MODEL, _VERSION = "/v2/models/{name:model}", "/v2/models/{name:model}/versions/{version}"


class MetadataRoutes:
    """The handlers.

    Args:
        catalog: which models there are.
        version: of Graftwork.
        max_rows: of one request.
    """

    def __init__(self, catalog: Catalog, version: str, *, max_rows: int) -> None:
        self._catalog = catalog
        self._version = version
        self._max_rows = max_rows

    def server(self) -> Document:
        """What the server says of itself."""
        return server_metadata(self._version)

    def model(self, name: str, version: str | None) -> Document:
        """What a version says of itself; raises as `Catalog.entry`."""
        return model_metadata(*self._found(name, version))

    def config(self, name: str, version: str | None) -> Document:
        """How a version is configured; raises as `Catalog.entry`."""
        return model_config(*self._found(name, version), max_rows=self._max_rows)

    def _found(self, name: str, version: str | None) -> tuple[CatalogModel, CatalogVersion]:
        entry = self._catalog.entry(reference(name, version))
        return self._catalog.model(entry.name), entry

    @route("GET", "/v2", scope=Scope.METADATA)
    async def server_metadata(self, request: Request) -> Response:
        """``GET /v2``."""
        return _json(self.server())

    @route("GET", _MODEL, _VERSION, scope=Scope.METADATA)
    async def model_metadata(self, request: Request) -> Response:
        """``GET /v2/models/{name}[/versions/{version}]``."""
        return _json(self.model(*_address(request)))

    @route("GET", f"{_MODEL}/config", f"{_VERSION}/config", scope=Scope.METADATA)
    async def model_config(self, request: Request) -> Response:
        """``GET /v2/models/{name}[/versions/{version}]/config``."""
        return _json(self.config(*_address(request)))

    @route("GET", f"{_MODEL}/ready", f"{_VERSION}/ready", scope=Scope.METADATA)
    async def model_ready(self, request: Request) -> Response:
        """``GET /v2/models/{name}[/versions/{version}]/ready``: 200 once it is served, else the reason."""
        name, version = _address(request)
        self._catalog.entry(reference(name, version))
        return _json({"name": name, "ready": True})


class MissingRoutes:
    """Parts of Triton's protocol that are left out, each with an answer that says so."""

    @route("GET", *_MEMORY, scope=Scope.METADATA)
    @route("POST", *_MEMORY, scope=Scope.METADATA)
    async def shared_memory(self, request: Request) -> Response:
        """Any request about shared memory."""
        raise NotSupported("shared memory is not supported; send tensors in the request")

    @route("GET", "/v2/trace/setting", f"{_MODEL}/trace/setting", scope=Scope.METADATA)
    @route("POST", "/v2/trace/setting", f"{_MODEL}/trace/setting", scope=Scope.METADATA)
    async def trace(self, request: Request) -> Response:
        """Any request about traces."""
        raise NotSupported("trace settings are not supported; every request has a line in the log with its times")

    @route("GET", "/v2/logging", scope=Scope.METADATA)
    @route("POST", "/v2/logging", scope=Scope.METADATA)
    async def logging(self, request: Request) -> Response:
        """Any request about the log."""
        raise NotSupported("log settings cannot be changed while the server runs")


def _address(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")


def _json(document: Document) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
