"""Asks a service, one request after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx2

from models.version import Reference
from service.client.call import Outcome, Pause, Reply, Send, Steps, T
from service.client.connections import explaining_proxies, failure_of, options, timeouts
from service.client.embeddings import Embeddings
from service.client.items import Item
from service.client.predictions import Predictions
from service.client.routes import Routes
from service.client.status import ModelStatus

TIMEOUT_SECONDS = 60.0
RETRIES = 2


class Client:
    """Talks to a service; threads may share one. A context manager: the end of its block closes its connections.

    What does no harm when it is asked twice (predictions, embeddings, whatever is read) is asked again where a server is
    full, ends or does not answer: after what its ``Retry-After`` says, and longer each time.

    Args:
        url: such as ``http://127.0.0.1:8000``; several are replicas of one service, and where one cannot be reached or
            cannot answer now, the next one is asked.
        api_key: the secret of a key, for a service that asks for one. It is never sent on where a server redirects to.
        timeout: seconds until a request is given up, which the server is told.
        deadline: seconds until a method is given up, whatever is left of it; None sets none.
        retries: how often a request is sent again.
        transport: instead of the network, for tests.
        clock: in seconds.
        sleep: waits so many seconds.

    Raises:
        InvalidParameter: a URL is no address of a server, or no key looks like this one.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        deadline: float | None = None,
        retries: int = RETRIES,
        transport: httpx2.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._routes = Routes(url, api_key, timeout=timeout, deadline=deadline, retries=retries, clock=clock)
        with explaining_proxies():
            self._http = httpx2.Client(transport=transport, **options(self._routes.replicas.urls))
        self._clock = clock
        self._sleep = sleep

    @property
    def url(self) -> str:
        """Of the first replica."""
        return self._routes.replicas.urls[0]

    def predict(
        self,
        reference: str | Reference,
        items: Sequence[Item],
        *,
        top_k: int | None = None,
        truncate: bool = False,
    ) -> Predictions:
        """Predictions for texts, pairs of them or image files, in their order, all by one version.

        Args:
            reference: ``flowers``, ``flowers:3`` or ``flowers@champion``.
            items: texts as ``str``, pairs as two of them, image files as ``Path`` or as their bytes; any number.
            top_k: how many scores to list, where scores are listed; all of them without.
            truncate: cut texts that are too long, instead of refusing them.

        Raises:
            GraftworkError: what the server said, or that it cannot be reached.
        """
        return self._run(self._routes.predict(reference, items, top_k=top_k, truncate=truncate))

    def embed(self, model: str, items: Sequence[str | bytes | Path], *, dimensions: int | None = None) -> Embeddings:
        """The vectors of texts or image files, in their order.

        Args:
            model: as the service names it.
            items: texts as ``str``, image files as ``Path`` or as their bytes; any number.
            dimensions: how many to keep of each vector, where the model can be cut; all of them without.

        Raises:
            GraftworkError: what the server said, or that it cannot be reached.
        """
        return self._run(self._routes.embed(model, items, dimensions=dimensions))

    def models(self) -> list[str]:
        """The names of all models."""
        return self._run(self._routes.models())

    def model(self, name: str) -> ModelStatus:
        """What is served of a model."""
        return self._run(self._routes.model(name))

    def metadata(self, name: str) -> Mapping[str, Any]:
        """What the version that answers for a model says of itself, and how it is computed."""
        return self._run(self._routes.metadata(name))

    def is_ready(self) -> bool:
        """Whether the service, or one of its replicas, takes requests now; asked once."""
        return self._run(self._routes.is_ready())

    def get(self, path: str) -> bytes:
        """Reads a resource."""
        return self._run(self._routes.get(path))

    def post(self, path: str, document: object, *, repeatable: bool = False) -> Any:
        """Sends a JSON document and reads the JSON answer.

        Args:
            repeatable: whether it does no harm where it is taken twice, so that it is sent again where that helps.
        """
        return self._run(self._routes.post(path, document, repeatable=repeatable))

    def post_bytes(self, path: str, body: bytes) -> Any:
        """Sends one image file to be predicted as it is, and reads the JSON answer."""
        return self._run(self._routes.post_bytes(path, body))

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        outcome: Outcome | None = None
        try:
            while True:
                step = steps.send(outcome)
                outcome = self._sleep(step.seconds) if isinstance(step, Pause) else self._send(step)
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, step: Send) -> Outcome:
        until = self._clock() + step.seconds
        try:
            with self._http.stream(
                step.method, step.url, headers=step.headers, content=step.body, timeout=timeouts(step.seconds)
            ) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if self._clock() > until:  # it drips: each read alone was quick enough
                        raise TimeoutError
                return Reply(status=response.status_code, headers=response.headers, body=bytes(body))
        except (httpx2.RequestError, TimeoutError) as error:
            return failure_of(error)
