"""Triton's model repository extension: what is there, and which of it is loaded. The same over HTTP and gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from models.audit import AuditLog
from models.errors import DeadlineExceeded, InvalidParameter, NotSupported
from service.api.catalog import Catalog
from service.api.catalog_model import CatalogVersion, State

LOAD_SECONDS = 300.0  # what is always in use may have the memory

SERVED_AS_IT_IS = "a model is served as it is in the repository, without a configuration or files of a request"


class ModelControl:
    """Lists, loads and unloads models.

    Args:
        catalog: has workers follow.
        audit: who loaded and unloaded what.
    """

    def __init__(self, catalog: Catalog, audit: AuditLog) -> None:
        self._catalog = catalog
        self._audit = audit

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """Every version of every model on disk: ``name``, ``version``, ``state`` and ``reason``.

        Args:
            ready: only those that are served.
        """
        rows = [
            _row(entry)
            for _, model in sorted(self._catalog.models.items())
            for _, entry in sorted(model.versions.items())
        ]
        return [row for row in rows if not ready or row["state"] == "READY"]

    async def load(self, name: str, parameters: Iterable[str], *, who: str, request_id: str) -> None:
        """Loads a model, and returns once it is served.

        Args:
            parameters: the names of those that the request has.
            who: as `AuditLog` has it.
            request_id: of the request.

        Raises:
            NotSupported: models are not loaded by name here, or not with these parameters.
            DeadlineExceeded: it gets no memory.
            GraftworkError: see `Catalog.load_model`.
        """
        self._check_explicit()
        async with self._audit.recording_beside(who, "models.load", target=name, request_id=request_id):
            for parameter in parameters:
                if parameter == "config" or parameter.startswith("file:"):
                    raise NotSupported(SERVED_AS_IT_IS)
                raise InvalidParameter(f"a load has no parameter '{parameter[:64]}'; leave it out")
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    await self._catalog.load_model(name)
            except TimeoutError:
                raise DeadlineExceeded(f"'{name}' was not loaded in {LOAD_SECONDS:g} s; it is not loaded") from None

    async def unload(self, name: str, parameters: Iterable[str], *, who: str, request_id: str) -> None:
        """Unloads a model; what is under way is answered.

        Args:
            parameters: the names of those that the request has. No model here depends on another one: ``unload_dependents`` changes
                nothing.
            who: as `AuditLog` has it.
            request_id: of the request.

        Raises:
            NotSupported: models are not loaded by name here.
            ModelNotFound: there is none.
        """
        self._check_explicit()
        async with self._audit.recording_beside(who, "models.unload", target=name, request_id=request_id):
            for parameter in parameters:
                if parameter != "unload_dependents":
                    raise InvalidParameter(f"an unload has no parameter '{parameter[:64]}'; leave it out")
            self._catalog.unload_model(name)

    def _check_explicit(self) -> None:
        if not self._catalog.is_explicit:
            raise NotSupported(
                "every model in the repository is served; to load them by their names: "
                "graftwork serve --model-control explicit"
            )


def _row(entry: CatalogVersion) -> dict[str, str]:
    if entry.is_served:
        state, reason = "READY" if entry.is_kept else "UNLOADING", ""
    elif entry.state is State.LOADING:
        state, reason = "LOADING", ""
    else:
        state, reason = "UNAVAILABLE", entry.reason or "unloaded"
    return {"name": entry.name, "version": str(entry.number), "state": state, "reason": reason}
