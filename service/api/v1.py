"""Prediction routes in the dialect of KServe V1 and TensorFlow Serving."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import orjson
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope

from models.backbone import Modality
from models.errors import InvalidParameter
from models.version import Reference, check_alias, check_name, parse_number
from service.api.body import HEADERS as BODY_HEADERS
from service.api.body import read_body, read_instances
from service.api.declaration import route
from service.api.inference import Inference
from service.api.patience import HEADER as TIMEOUT_HEADER
from service.api.patience import timeout_seconds
from service.api.telemetry import RECORD, RequestRecord
from service.auth.key import Scope as KeyScope
from service.http.scope import CONNECTION
from service.messages import PREDICTIONS, Wish
from service.settings import ServerSettings

PREDICTION_PATHS = tuple(
    f"/v1/models/{{name}}{where}:predict" for where in ("", "/versions/{number}", "/labels/{alias}")
)
PREDICTION = route("POST", *PREDICTION_PATHS, scope=KeyScope.PREDICT)  # answered without the router
_READ = {name.encode(): name for name in (*BODY_HEADERS, TIMEOUT_HEADER)}
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
_JSON: Headers = [(b"content-type", b"application/json")]
PredictionPath: TypeAlias = tuple[str, str | None, str | None]
_PREDICTION = re.compile(r"/v1/models/(?P<name>[^/]+)(?:/versions/(?P<number>[^/]+)|/labels/(?P<alias>[^/]+))?:predict")


def match_prediction(scope: Scope) -> PredictionPath | None:
    """The parts of the path, where a request is for a prediction: a name, and a number or an alias or neither."""
    return _parts(scope["path"]) if scope["method"] == "POST" else None


@lru_cache(1024)
def _parts(path: str) -> PredictionPath | None:
    match = _PREDICTION.fullmatch(path)
    return None if match is None else match.groups()  # type: ignore[return-value]


class V1Routes:
    """The handlers under ``/v1``.

    Args:
        settings: limits.
        inference: who answers.
    """

    def __init__(self, settings: ServerSettings, inference: Inference) -> None:
        self._settings = settings
        self._inference = inference

    async def predict(self, scope: Scope, receive: Receive, path: PredictionPath) -> tuple[bytes, Headers]:
        """``POST /v1/models/{name}:predict``, also below ``/versions/{number}`` and ``/labels/{alias}``.

        Args:
            path: what `match_prediction` found.

        Returns:
            The body of the answer, and the headers that go with it.
        """
        record: RequestRecord = scope[RECORD]
        headers = {_READ[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _READ}
        with self._inference.question(_reference(*path), record, scope.get(CONNECTION)) as question:
            settings, version, manifest = self._settings, question.version, question.version.manifest
            wish = _wish(QueryParams(scope["query_string"])) if scope["query_string"] else PREDICTIONS
            if (timeout := headers.get(TIMEOUT_HEADER)) is not None:
                question.limit(timeout_seconds(timeout))
            limit = settings.max_image_bytes if manifest.modality is Modality.IMAGE else settings.max_json_bytes
            items = read_instances(
                await read_body(receive, headers, limit, question.ticket),
                headers,
                manifest.modality,
                max_instances=settings.max_instances,
                pairs=manifest.pair is not None,
            )
            reply = await question.ask(items, wish)
        tail = orjson.dumps({"model": version.name, "version": version.number, "request_id": record.request_id})
        return b'{"predictions":%s,%s' % (reply.payload, tail[1:]), _JSON


@lru_cache(1024)  # of paths that are right: errors are not remembered
def _reference(name: str, number: str | None, alias: str | None) -> Reference:
    return Reference(
        name=check_name(name),
        number=None if number is None else parse_number(number),
        alias=None if alias is None else check_alias(alias),
    )


def _wish(query: Mapping[str, str]) -> Wish:
    """``top_k`` and ``truncate``; other parameters are ignored."""
    top_k = query.get("top_k")
    if top_k is not None and not (top_k.isascii() and top_k.isdecimal() and int(top_k[:9]) >= 1 and len(top_k) < 10):
        raise InvalidParameter("top_k must be a whole number from 1")
    truncate = query.get("truncate", "false").lower()
    if truncate not in ("true", "false"):
        raise InvalidParameter("truncate must be true or false")
    return Wish(top_k=None if top_k is None else int(top_k), truncate=truncate == "true")
