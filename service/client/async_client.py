"""Asks a service, many requests at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx2

from models.version import Reference
from service.client.call import Outcome, Pause, Reply, Send, Steps, T
from service.client.client import RETRIES, TIMEOUT_SECONDS
from service.client.connections import explaining_proxies, failure_of, options, timeouts
from service.client.embeddings import Embeddings
from service.client.items import Item
from service.client.predictions import Predictions
from service.client.routes import Routes
from service.client.status import ModelStatus


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods and errors. Its methods may run at the same time.

    Args:
        sleep: waits so many seconds; the others are those of `Client`.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        deadline: float | None = None,
        retries: int = RETRIES,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._routes = Routes(url, api_key, timeout=timeout, deadline=deadline, retries=retries, clock=clock)
        with explaining_proxies():
            self._http = httpx2.AsyncClient(transport=transport, **options(self._routes.replicas.urls))
        self._sleep = sleep

    @property
    def url(self) -> str:
        """Of the first replica."""
        return self._routes.replicas.urls[0]

    async def predict(
        self,
        reference: str | Reference,
        items: Sequence[Item],
        *,
        top_k: int | None = None,
        truncate: bool = False,
    ) -> Predictions:
        """See `Client.predict`."""
        return await self._run(self._routes.predict(reference, items, top_k=top_k, truncate=truncate))

    async def embed(
        self, model: str, items: Sequence[str | bytes | Path], *, dimensions: int | None = None
    ) -> Embeddings:
        """See `Client.embed`."""
        return await self._run(self._routes.embed(model, items, dimensions=dimensions))

    async def models(self) -> list[str]:
        """See `Client.models`."""
        return await self._run(self._routes.models())

    async def model(self, name: str) -> ModelStatus:
        """See `Client.model`."""
        return await self._run(self._routes.model(name))

    async def metadata(self, name: str) -> Mapping[str, Any]:
        """See `Client.metadata`."""
        return await self._run(self._routes.metadata(name))

    async def is_ready(self) -> bool:
        """See `Client.is_ready`."""
        return await self._run(self._routes.is_ready())

    async def get(self, path: str) -> bytes:
        """See `Client.get`."""
        return await self._run(self._routes.get(path))

    async def post(self, path: str, document: object, *, repeatable: bool = False) -> Any:
        """See `Client.post`."""
        return await self._run(self._routes.post(path, document, repeatable=repeatable))

    async def post_bytes(self, path: str, body: bytes) -> Any:
        """See `Client.post_bytes`."""
        return await self._run(self._routes.post_bytes(path, body))

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

    async def _run(self, steps: Steps[T]) -> T:
        outcome: Outcome | None = None
        try:
            while True:
                step = steps.send(outcome)
                outcome = await (self._sleep(step.seconds) if isinstance(step, Pause) else self._send(step))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, step: Send) -> Outcome:
        try:
            async with asyncio.timeout(step.seconds):
                response = await self._http.request(
                    step.method, step.url, headers=step.headers, content=step.body, timeout=timeouts(step.seconds)
                )
            return Reply(status=response.status_code, headers=response.headers, body=response.content)
        except (httpx2.RequestError, TimeoutError) as error:
            return failure_of(error)
