"""What each route is asked, and what comes back: written once for both clients."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlencode

from models.errors import GraftworkError, InvalidParameter
from models.version import Reference, check_name
from service.client.call import Call, Reply, Steps
from service.client.caller import Caller
from service.client.embeddings import Embeddings, parse_vectors, stacked
from service.client.items import EMBEDDED_ITEMS, Item, check_items, chunks, embedding_input, instance
from service.client.predictions import Prediction, Predictions, parse_prediction
from service.client.problem import unlike_ours
from service.client.replicas import Replicas
from service.client.status import ModelStatus, parse_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

JSON = "application/json"


class Routes:
    """The methods of both clients, as steps.

    Args:
        url: of the service, or of each of its replicas.
        api_key: the secret of a key.
        timeout: seconds until a request is given up.
        deadline: seconds until a method is; None leaves it to the timeout and the retries.
        retries: how often a request is sent again.
        clock: in seconds.

    Raises:
        InvalidParameter: one of them cannot be meant.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        api_key: str | None,
        *,
        timeout: float,
        deadline: float | None,
        retries: int,
        clock: Callable[[], float],
    ) -> None:
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise InvalidParameter("the key has characters in it that no key has; copy it again")
        if not (timeout > 0 and (deadline is None or deadline > 0) and retries >= 0):
            raise InvalidParameter("timeout and deadline are seconds above 0, and retries are 0 or more")
        self.replicas = Replicas([url] if isinstance(url, str) else url, clock)
        self._caller = Caller(self.replicas, api_key=api_key or None, timeout=timeout, retries=retries, clock=clock)
        self._single_try = Caller(self.replicas, api_key=None, timeout=timeout, retries=0, clock=clock)
        self._deadline = math.inf if deadline is None else deadline
        self._clock = clock

    def predict(
        self, reference: str | Reference, items: Sequence[Item], *, top_k: int | None, truncate: bool
    ) -> Steps[Predictions]:
        check_items(items)
        if isinstance(reference, str):
            reference = Reference.parse(reference)
        options = {"truncate": str(truncate).lower(), **({} if top_k is None else {"top_k": top_k})}
        until = self._until()
        predictions: list[Prediction] = []
        for chunk in chunks(map(instance, items)):
            path = f"{_path(reference)}:predict?{urlencode(options)}"
            reply = yield from self._caller.ask(_document_call(path, b'{"instances":%s}' % chunk), until)
            with self._understanding(reply):
                answer = json.loads(reply.body)
                predictions.extend(map(parse_prediction, answer["predictions"]))
                model, version, request_id = str(answer["model"]), int(answer["version"]), str(answer["request_id"])
            # The rest goes to the version that answered first, whatever is published meanwhile.
            reference = Reference(name=reference.name, number=version)
        if len(predictions) != len(items):
            self._misunderstood(reply)
        return Predictions(model=model, version=version, request_id=request_id, predictions=tuple(predictions))

    def embed(self, model: str, items: Sequence[str | bytes | Path], *, dimensions: int | None) -> Steps[Embeddings]:
        check_items(items)
        options = {"encoding_format": "base64", **({} if dimensions is None else {"dimensions": dimensions})}
        until = self._until()
        vectors: list[NDArray[np.float32]] = []
        tokens = 0
        asked = model
        for chunk in chunks(map(embedding_input, items), EMBEDDED_ITEMS):
            head = json.dumps({"model": asked, **options}).encode()
            call = _document_call("/v1/embeddings", b'%s,"input":%s}' % (head[:-1], chunk))
            reply = yield from self._caller.ask(call, until)
            with self._understanding(reply):
                answer = json.loads(reply.body)
                vectors.extend(parse_vectors(answer))
                tokens += int(answer["usage"]["total_tokens"])
                model = str(answer["model"])
            if _is_version(model):  # and no backbone, whose name may be that of a model as well
                asked = model  # the rest goes to the version that answered first
        if len(vectors) != len(items):
            self._misunderstood(reply)
        with self._understanding(reply):
            return stacked(vectors, model=model, tokens=tokens)

    def models(self) -> Steps[list[str]]:
        reply = yield from self._get("/v1/models")
        with self._understanding(reply):
            return [str(name) for name in json.loads(reply.body)["models"]]

    def model(self, name: str) -> Steps[ModelStatus]:
        reply = yield from self._get(f"/v1/models/{check_name(name)}")
        with self._understanding(reply):
            return parse_status(json.loads(reply.body))

    def metadata(self, name: str) -> Steps[Mapping[str, Any]]:
        reply = yield from self._get(f"/v1/models/{check_name(name)}/metadata")
        with self._understanding(reply):
            return dict(json.loads(reply.body))

    def is_ready(self) -> Steps[bool]:
        try:
            yield from self._single_try.ask(Call(method="GET", path="/health/ready"), self._until())
        except GraftworkError:
            return False
        return True

    def get(self, path: str) -> Steps[bytes]:
        reply = yield from self._get(path)
        return reply.body

    def post(self, path: str, document: object, *, repeatable: bool) -> Steps[Any]:
        call = _document_call(path, json.dumps(document).encode(), repeatable=repeatable)
        return (yield from self._post(call))

    def post_bytes(self, path: str, body: bytes) -> Steps[Any]:
        call = Call(method="POST", path=path, body=body, content_type="application/octet-stream")
        return (yield from self._post(call))

    def _get(self, path: str) -> Steps[Reply]:
        return (yield from self._caller.ask(Call(method="GET", path=path), self._until()))

    def _post(self, call: Call) -> Steps[Any]:
        reply = yield from self._caller.ask(call, self._until())
        with self._understanding(reply):
            return json.loads(reply.body)

    def _until(self) -> float:
        return self._clock() + self._deadline

    @contextmanager
    def _understanding(self, reply: Reply) -> Iterator[None]:
        """Raises `GraftworkError` where an answer is not what a server of ours says."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._misunderstood(reply)

    def _misunderstood(self, reply: Reply) -> NoReturn:
        raise unlike_ours(reply, self.replicas.in_order()[0]) from None


def _document_call(path: str, body: bytes, *, repeatable: bool = True) -> Call:
    return Call(method="POST", path=path, body=body, content_type=JSON, repeatable=repeatable)


def _is_version(model: str) -> bool:
    try:
        return Reference.parse(model).number is not None
    except InvalidParameter:
        return False


def _path(reference: Reference) -> str:
    path = f"/v1/models/{quote(reference.name)}"
    if reference.number is not None:
        return f"{path}/versions/{reference.number}"
    return path if reference.alias is None else f"{path}/labels/{quote(reference.alias)}"
