"""Reflection: the services and messages of this server, for grpcurl and its like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from service.api.oip.grpc_calls import Answer, Call, parse
from service.api.oip.grpc_scopes import HEALTH, INFERENCE, REFLECTION


class Reflection:
    """The method, which has two names."""

    def __init__(self) -> None:
        # Not the later name of reflection, of which there is no description: grpcurl gives up on a service that has none.
        self._servicer = ReflectionServicer((INFERENCE, HEALTH, REFLECTION[0]))

    def answers(self) -> Mapping[str, Answer]:
        """Who answers a call, by the path of its method."""
        return {f"/{name}/ServerReflectionInfo": self.describe for name in REFLECTION}

    async def describe(self, call: Call) -> None:
        """``ServerReflectionInfo``: an answer for each question."""
        async for response in self._servicer.ServerReflectionInfo(_questions(call), None):
            await call.write(response)


async def _questions(call: Call) -> AsyncIterator[Any]:
    while (message := await call.read_next()) is not None:
        yield parse(ServerReflectionRequest, message)
