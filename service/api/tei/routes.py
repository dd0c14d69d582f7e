"""TEI's routes that ask the workers: one way for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from starlette.types import Receive, Scope

from service.api.body import HEADERS as BODY_HEADERS
from service.api.body import read_body
from service.api.declaration import route
from service.api.inference import Inference
from service.api.patience import HEADER as TIMEOUT_HEADER
from service.api.patience import timeout_seconds
from service.api.tei.embed import embed
from service.api.tei.errors import EMBED, PATHS, PREDICT, RERANK, ROOT, SIMILARITY
from service.api.tei.model import ModelKind, TeiModel, model_kind
from service.api.tei.predict import predict
from service.api.tei.rank import rerank, similarity
from service.api.tei.request import TeiRequest, read_object
from service.api.telemetry import RECORD
from service.auth.key import Scope as KeyScope
from service.http.scope import CONNECTION
from service.settings import ServerSettings

TEI = route("POST", *PATHS, scope=KeyScope.PREDICT)  # answered without the router
Answer: TypeAlias = Callable[[TeiRequest], Awaitable[bytes]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
_READ = {name.encode(): name for name in (*BODY_HEADERS, TIMEOUT_HEADER)}
_JSON: Headers = [(b"content-type", b"application/json")]


async def by_shape(request: TeiRequest) -> bytes:
    """``POST /``, where the hub's clients ask: what the body has the form of, else what the model is for."""
    if "query" in request.document:
        return await rerank(request)
    if isinstance(request.document.get("inputs"), dict):
        return await similarity(request)
    return await (embed if request.kind is ModelKind.EMBEDDING else predict)(request)


_ANSWERS: Mapping[str, Answer] = {
    EMBED: embed,
    PREDICT: predict,
    RERANK: rerank,
    SIMILARITY: similarity,
    ROOT: by_shape,
}


def match_tei(scope: Scope) -> Answer | None:
    """Who answers a request, where it is one of these."""
    return _ANSWERS.get(scope["path"]) if scope["method"] == "POST" else None


class TeiRoutes:
    """Answers them.

    Args:
        settings: limits.
        model: that they speak for.
        inference: who answers.
    """

    def __init__(self, settings: ServerSettings, model: TeiModel, inference: Inference) -> None:
        self._settings = settings
        self._model = model
        self._inference = inference

    async def answer(self, scope: Scope, receive: Receive, answer: Answer) -> tuple[bytes, Headers]:
        """Answers one.

        Args:
            answer: what `match_tei` found.

        Returns:
            The body of the answer, and the headers that go with it.
        """
        headers = {_READ[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _READ}
        addressee = self._model.find()
        with self._inference.question(
            addressee.reference, scope[RECORD], scope.get(CONNECTION), waits=True
        ) as question:
            kind = model_kind(question.version.manifest, addressee.backbone)
            if (timeout := headers.get(TIMEOUT_HEADER)) is not None:
                question.limit(timeout_seconds(timeout))
            body = await read_body(receive, headers, self._settings.max_json_bytes, question.ticket)
            return await answer(TeiRequest(document=read_object(body), question=question, kind=kind)), _JSON
