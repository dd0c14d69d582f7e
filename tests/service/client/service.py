"""A service that a test scripts, without a network, and both clients to ask it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2

from service.client import AsyncClient, Client

Handler = Callable[[httpx2.Request], httpx2.Response]
URL = "http://127.0.0.1:8000"


def predicted(*texts: object, version: int = 4) -> dict[str, Any]:
    """The answer for some texts: each is its own label."""
    predictions = [{"label": text, "score": 1.0, "scores": {str(text): 1.0}} for text in texts]
    return {"predictions": predictions, "model": "m", "version": version, "request_id": "r"}


def echo(request: httpx2.Request) -> httpx2.Response:
    """Answers a prediction with its texts."""
    return httpx2.Response(200, json=predicted(*json.loads(request.content)["instances"]))


def refusal(status: int, code: str = "overloaded", **headers: str) -> httpx2.Response:
    """As a server of ours refuses."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json={"code": code, "detail": "because"}, headers=names)


class Service:
    """Answers with what is scripted, then like `echo`; time passes only in it and in pauses.

    Args:
        seconds: that an answer takes.
        script: answers, or errors of the connection.

    Attributes:
        seen: requests in their order.
        pauses: in seconds.
    """

    def __init__(self, *script: httpx2.Response | Exception, seconds: float = 0.0) -> None:
        self.seen: list[httpx2.Request] = []
        self.pauses: list[float] = []
        self.now = 1000.0
        self._script = list(script)
        self._seconds = seconds

    @property
    def hosts(self) -> list[str]:
        """Who was asked."""
        return [request.url.host for request in self.seen]

    def ask_once(
        self, url: str | list[str], method: str, *arguments: Any, key: str | None = None, **options: Any
    ) -> Any:
        """A method of a `Client` of its own."""
        with self.client(url, key, **options) as client:
            return getattr(client, method)(*arguments)

    def ask_async(
        self, url: str | list[str], method: str, *arguments: Any, key: str | None = None, **options: Any
    ) -> Any:
        """A method of an `AsyncClient` of its own."""

        async def ask() -> Any:
            async with AsyncClient(
                url,
                key,
                transport=httpx2.MockTransport(self._answer),
                clock=lambda: self.now,
                sleep=self._async_pause,
                **options,
            ) as client:
                return await getattr(client, method)(*arguments)

        return asyncio.run(ask())

    def client(self, url: str | list[str] = URL, key: str | None = None, **options: Any) -> Client:
        """A client of it."""
        transport = httpx2.MockTransport(self._answer)
        return Client(url, key, transport=transport, clock=lambda: self.now, sleep=self._pause, **options)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)
        self.now += self._seconds
        if not self._script:
            return echo(request)
        answer = self._script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer.is_stream_consumed or answer.is_closed:  # it is here already: the same one may be asked for again
            return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)
        return answer

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def _async_pause(self, seconds: float) -> None:
        self._pause(seconds)
