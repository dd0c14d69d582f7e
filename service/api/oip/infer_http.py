"""``POST /v2/models/{name}/infer``, also below ``/versions/{version}``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from starlette.types import Receive, Scope

from models.backbone import Modality
from models.errors import BadRequest, BodyTooLarge, EmptyBody
from service.api.body import HEADERS as BODY_HEADERS
from service.api.body import read_body
from service.api.declaration import route
from service.api.inference import Inference, Question
from service.api.oip.address import reference
from service.api.oip.compression import WORTHWHILE_BYTES, accepted_encoding, compress, decompress
from service.api.oip.infer import InferRequest, ask
from service.api.oip.infer_json import JSON_SIZE, json_size, read_raw, read_request, write_answer
from service.api.patience import HEADER as TIMEOUT_HEADER
from service.api.patience import timeout_seconds
from service.api.telemetry import RECORD, RequestRecord
from service.auth.key import Scope as KeyScope
from service.http.scope import CONNECTION
from service.settings import ServerSettings

INFER_PATHS = ("/v2/models/{name:model}/infer", "/v2/models/{name:model}/versions/{version}/infer")
INFER = route("POST", *INFER_PATHS, scope=KeyScope.PREDICT)  # answered without the router
ACCEPT_ENCODING = "accept-encoding"
InferPath: TypeAlias = tuple[str, str | None]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

_INFER = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer")
_READ = {name.encode(): name for name in (*BODY_HEADERS, TIMEOUT_HEADER, JSON_SIZE, ACCEPT_ENCODING)}
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_JSON_SIZE = JSON_SIZE.encode()
_VARY = (b"vary", b"accept-encoding")


def match_infer(scope: Scope) -> InferPath | None:
    """The parts of the path, where a request is for an inference: a name, and a version or none."""
    return _parts(scope["path"]) if scope["method"] == "POST" else None


@lru_cache(1024)
def _parts(path: str) -> InferPath | None:
    match = _INFER.fullmatch(path)
    return None if match is None else match.groups()  # type: ignore[return-value]


class InferRoute:
    """Answers inference requests.

    Args:
        settings: limits.
        inference: who answers.
    """

    def __init__(self, settings: ServerSettings, inference: Inference) -> None:
        self._settings = settings
        self._inference = inference

    async def infer(self, scope: Scope, receive: Receive, path: InferPath) -> tuple[bytes, Headers]:
        """Answers one.

        Args:
            path: what `match_infer` found.

        Returns:
            The body of the answer, and the headers that go with it.
        """
        record: RequestRecord = scope[RECORD]
        headers = _headers(scope)
        with self._inference.question(reference(*path), record, scope.get(CONNECTION)) as question:
            if (timeout := headers.get(TIMEOUT_HEADER)) is not None:
                question.limit(timeout_seconds(timeout))
            request = await self._read(receive, headers, question)
            plan, reply = await ask(
                request,
                question,
                max_rows=self._settings.max_instances,
                max_image_bytes=self._settings.max_image_bytes,
            )
        body, size = write_answer(question.version, request, plan, reply)
        found = [_JSON] if size is None else [_BINARY, (_JSON_SIZE, b"%d" % size)]
        if len(body) >= WORTHWHILE_BYTES and (encoding := accepted_encoding(headers.get(ACCEPT_ENCODING, ""))):
            body = await compress(body, encoding)
            found += [(b"content-encoding", encoding.encode()), _VARY]
        return body, found

    async def _read(self, receive: Receive, headers: Mapping[str, str], question: Question) -> InferRequest:
        json_limit = limit = self._settings.max_json_bytes
        if question.version.manifest.modality is Modality.IMAGE:
            json_limit, limit = self._settings.max_image_bytes, self._settings.max_tensor_bytes
        if JSON_SIZE not in headers:
            limit = json_limit
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding in ("", "identity"):
            body = await read_body(receive, headers, limit, question.ticket)
        else:
            sent = {name: value for name, value in headers.items() if name != "content-encoding"}
            packed = await read_body(receive, sent, limit, question.ticket)
            body = await decompress(packed, encoding, limit, question.ticket)
        size = json_size(headers.get(JSON_SIZE), len(body))
        if size == 0:
            if not body:
                raise EmptyBody("the body is empty; send the bytes of one input")
            return read_raw(body, question.signature)
        if (size or 0) > json_limit:
            raise BodyTooLarge(f"the JSON has {size:,} bytes, over the limit of {json_limit:,}; send tensors as bytes")
        return read_request(body, size)


def _headers(scope: Scope) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        if (known := _READ.get(name)) is not None:
            if known == JSON_SIZE and known in found:
                raise BadRequest("Inference-Header-Content-Length is there twice; send it once")
            found[known] = value.decode("latin-1")
    return found
