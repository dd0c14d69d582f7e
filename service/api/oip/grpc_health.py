"""``grpc.health.v1.Health``: the server's health under no name, a model's under its own.

Whoever calls needs no key before the message has come, so that only so many messages are waited for, and not for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from models.errors import ModelNotFound, Overloaded
from service.api.catalog import Catalog
from service.api.gate import Gate
from service.api.oip.grpc_calls import Answer, Call, parse
from service.api.oip.grpc_scopes import HEALTH, INFERENCE
from service.api.oip.grpc_service import is_model_ready
from service.auth.key import Scope

LOOK_SECONDS = 1.0
READ_SECONDS = 5.0  # a message is a name
MOST_READ = 64  # messages at a time: each may be as large as any, and needs no key
MOST_WATCHERS = 64  # they need no key, and stay


class Health:
    """The methods.

    Whoever names a model is told whether there is one, and needs a key for that, as for ``ModelReady``.

    Args:
        catalog: what is ready.
        gate: who may ask for a model.
    """

    def __init__(self, catalog: Catalog, gate: Gate) -> None:
        self._catalog = catalog
        self._gate = gate
        self._read = 0
        self._watchers = 0
        self._draining = asyncio.Event()

    def answers(self) -> Mapping[str, Answer]:
        """Who answers a call, by the path of its method."""
        return {f"/{HEALTH}/Check": self.check, f"/{HEALTH}/Watch": self.watch}

    def drain(self) -> None:
        """The server is about to stop: whoever watches is told so, and not held any longer."""
        self._draining.set()

    async def check(self, call: Call) -> Message:
        """``Check``: how it is now; NOT_FOUND for a name that nothing has."""
        name = await self._name(call)
        status = self._status(name)
        if status is HealthCheckResponse.SERVICE_UNKNOWN:
            raise ModelNotFound(f"there is no model '{name[:64]}'")
        return HealthCheckResponse(status=status)

    async def watch(self, call: Call) -> None:
        """``Watch``: how it is now, and each change, until the server stops."""
        name = await self._name(call)
        if self._watchers >= MOST_WATCHERS:
            raise Overloaded("there are too many watchers; ask with Check")
        self._watchers += 1
        try:
            told = None
            while True:
                is_over, status = self._draining.is_set(), self._status(name)
                if status != told:
                    await call.write(HealthCheckResponse(status=status))
                    told = status
                if is_over:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._draining.wait(), LOOK_SECONDS)
        finally:
            self._watchers -= 1

    async def _name(self, call: Call) -> str:
        if self._read >= MOST_READ:
            raise Overloaded("there are too many health calls; try again later")
        self._read += 1
        try:
            message = await call.read(READ_SECONDS)
        finally:
            self._read -= 1
        name: str = parse(HealthCheckRequest, message).service
        if name not in ("", INFERENCE):
            self._gate.admit_call(call.headers, call.record, Scope.METADATA)
        return name

    def _status(self, name: str) -> Any:
        if self._catalog.not_ready_reason() is not None:
            return HealthCheckResponse.NOT_SERVING
        if name in ("", INFERENCE) or is_model_ready(self._catalog, name, None):
            return HealthCheckResponse.SERVING
        return HealthCheckResponse.NOT_SERVING if name in self._catalog.models else HealthCheckResponse.SERVICE_UNKNOWN
