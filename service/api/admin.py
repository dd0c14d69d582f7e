"""Routes that change what is served. They change the repository, as the command line does, and end when workers have followed.

Served with ``--admin`` only; keys need the scope ``admin``, and every change is in the audit log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from models.aliases import UNSET, AliasChange, Expected, promote, rollback, unalias
from models.audit import Action, AuditLog
from models.deployment import Deployment
from models.errors import DeadlineExceeded, PromotionRefused, VersionCorrupt
from models.repository import ModelRepository
from models.version import Reference, check_alias, check_name, parse_number
from models.version_policy import PolicyText
from service.api.catalog import Catalog
from service.api.declaration import route
from service.api.document import read_document
from service.api.telemetry import RECORD, RequestRecord
from service.auth.key import Scope

LOAD_SECONDS = 300.0  # for a version that is promoted: what is always in use may have its memory

LABEL = "/v1/models/{name:model}/labels/{alias:model}"
VERSION = "/v1/models/{name:model}/versions/{number:model}"
KEEP = "/v1/models/{name:model}/keep"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expectation(_Document):
    """``expect`` refuses the change unless the alias points to this version now; ``unset`` stands for none."""

    expect: Annotated[int, Field(ge=1)] | Literal["unset"] | None = None


class Promotion(Expectation):
    """Which version an alias shall point to."""

    version: int = Field(ge=1, lt=10**9)


class Keep(_Document):
    """What shall be kept loaded, beside aliased versions."""

    keep: PolicyText


class AdminRoutes:
    """The handlers of an operator.

    Args:
        repository: what is changed.
        catalog: has workers follow.
    """

    def __init__(self, repository: ModelRepository, catalog: Catalog) -> None:
        self._repository = repository
        self._catalog = catalog
        self._audit = AuditLog(repository.root)

    @route("PUT", LABEL, scope=Scope.ADMIN)
    async def promote(self, request: Request) -> Response:
        """``PUT /v1/models/{name}/labels/{alias}``: points an alias at a version, once every worker has loaded it."""
        name, alias = _label(request)
        wanted = await read_document(request, Promotion)
        async with self._recorded(request, "models.promote", f"{name}@{alias} = {wanted.version}"):
            reference = Reference(name=name, number=wanted.version)
            return await self._point(
                name, wanted.version, lambda: promote(self._repository, reference, alias, expect=wanted.expect)
            )

    @route("POST", LABEL + ":rollback", scope=Scope.ADMIN)
    async def rollback(self, request: Request) -> Response:
        """``POST /v1/models/{name}/labels/{alias}:rollback``: points it where it pointed before, in the same way."""
        name, alias = _label(request)
        wanted = await read_document(request, Expectation)
        async with self._recorded(request, "models.rollback", f"{name}@{alias}"):
            deployment = await asyncio.to_thread(self._deployment, name)
            now = deployment.aliases.get(alias)
            back = deployment.rolled_back(alias, frozenset(self._catalog.model(name).versions))
            expect: Expected = wanted.expect or now or UNSET  # what is loaded now is where it goes then
            target = None if back is None else back.aliases[alias]
            return await self._point(name, target, lambda: rollback(self._repository, name, alias, expect=expect))

    @route("DELETE", LABEL, scope=Scope.ADMIN)
    async def unalias(self, request: Request) -> Response:
        """``DELETE /v1/models/{name}/labels/{alias}``: removes an alias."""
        name, alias = _label(request)
        async with self._recorded(request, "models.unalias", f"{name}@{alias}"):
            expect = _expected(request.query_params)
            return await self._point(name, None, lambda: unalias(self._repository, name, alias, expect=expect))

    @route("DELETE", VERSION, scope=Scope.ADMIN)
    async def delete(self, request: Request) -> Response:
        """``DELETE /v1/models/{name}/versions/{number}``: removes a version that no alias points to."""
        name = check_name(request.path_params["name"])
        reference = Reference(name=name, number=parse_number(request.path_params["number"]))
        async with self._recorded(request, "models.delete", str(reference)):
            await asyncio.to_thread(self._repository.delete, reference)
            await self._catalog.refresh()
        return _json({"model": name, "version": reference.number, "deleted": True})

    @route("PUT", KEEP, scope=Scope.ADMIN)
    async def keep(self, request: Request) -> Response:
        """``PUT /v1/models/{name}/keep``: says which versions are kept loaded."""
        name = check_name(request.path_params["name"])
        kept = (await read_document(request, Keep)).keep
        async with self._recorded(request, "models.keep", f"{name} {kept}"):
            await asyncio.to_thread(
                self._repository.change_deployment, name, lambda before: before.model_copy(update={"keep": kept})
            )
            await self._catalog.refresh()
        return _json({"model": name, "keep": kept})

    async def _point(self, name: str, number: int | None, change: Callable[[], AliasChange]) -> Response:
        """Changes an alias while every worker holds the version that it shall point to."""
        await self._catalog.refresh()
        if number is None:
            return await self._changed(change)
        with self._catalog.hold(name, number) as entry:
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    await self._catalog.load(entry)
            except VersionCorrupt as error:
                raise PromotionRefused(f"{error.message}; the alias stays as it is") from None
            except TimeoutError:
                raise DeadlineExceeded(
                    f"{entry} was not loaded in {LOAD_SECONDS:g} s; the alias stays as it is"
                ) from None
            return await self._changed(change)

    async def _changed(self, change: Callable[[], AliasChange]) -> Response:
        done = await asyncio.to_thread(change)
        await self._catalog.refresh()
        return _json({"model": done.name, "alias": done.alias, "version": done.now, "before": done.before})

    def _deployment(self, name: str) -> Deployment:
        self._repository.existing_numbers(name)
        return self._repository.deployment(name)

    def _recorded(self, request: Request, what: str, target: str) -> AbstractAsyncContextManager[Action]:
        record: RequestRecord = request.scope[RECORD]
        return self._audit.recording_beside(record.who, what, target=target, request_id=record.request_id)


def _label(request: Request) -> tuple[str, str]:
    return check_name(request.path_params["name"]), check_alias(request.path_params["alias"])


def _expected(query: Mapping[str, str]) -> Expected:
    text = query.get("expect")
    return text if text is None or text == UNSET else parse_number(text)


def _json(document: object) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
