"""``POST /v1/embeddings``."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import orjson
from starlette.types import Receive, Scope

from models.errors import BodyTooLarge, InvalidDocument, InvalidParameter
from models.version import ModelVersion
from service.api.backbones import embeds
from service.api.body import HEADERS as BODY_HEADERS
from service.api.body import parse_json, read_body
from service.api.declaration import route
from service.api.embedding_request import MOST_COMMAS, Inputs, check_dimensions, read_inputs
from service.api.inference import Inference, Part, Question
from service.api.model_ids import ModelIds
from service.api.openai.errors import EMBEDDINGS_PATH
from service.api.part_rows import rows_of
from service.api.patience import HEADER as TIMEOUT_HEADER
from service.api.patience import timeout_seconds
from service.api.telemetry import RECORD
from service.api.turns import in_turns
from service.auth.key import Scope as KeyScope
from service.http.scope import CONNECTION
from service.messages import Embedding, Wish
from service.settings import ServerSettings

EMBEDDINGS = route("POST", EMBEDDINGS_PATH, scope=KeyScope.PREDICT)  # answered without the router
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
_READ = {name.encode(): name for name in (*BODY_HEADERS, TIMEOUT_HEADER)}
_JSON: Headers = [(b"content-type", b"application/json")]


def match_embeddings(scope: Scope) -> bool | None:
    """True where a request is for embeddings, else None."""
    return True if scope["path"] == EMBEDDINGS_PATH and scope["method"] == "POST" else None


class EmbeddingsRoute:
    """Answers requests for embeddings.

    Args:
        settings: limits.
        ids: of models and backbones.
        inference: who answers.
    """

    def __init__(self, settings: ServerSettings, ids: ModelIds, inference: Inference) -> None:
        self._settings = settings
        self._ids = ids
        self._inference = inference

    async def embed(self, scope: Scope, receive: Receive, _path: bool) -> tuple[bytes, Headers]:
        """Answers one.

        Returns:
            The body of the answer, and the headers that go with it.
        """
        headers = {_READ[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _READ}
        with self._inference.question(None, scope[RECORD], scope.get(CONNECTION), waits=True) as question:
            if (timeout := headers.get(TIMEOUT_HEADER)) is not None:
                question.limit(timeout_seconds(timeout))
            # One limit for all: which model is asked stands in the body.
            document = _document(await read_body(receive, headers, self._settings.max_image_bytes, question.ticket))
            model = _member(document, "model", str)
            addressee = self._ids.find(model)
            question.choose(addressee.reference)
            inputs, wish = _read(document, question)
            parts = await question.ask_in_parts(inputs.items, wish)
            name = addressee.backbone or str(question.version)
            width = check_embeds(question.version)
        assert wish.embedding is not None
        return await _answer(parts, len(inputs.items), name, width, as_json=wish.embedding.as_json)


def _document(body: bytes) -> Mapping[str, Any]:
    if body.count(b",") > MOST_COMMAS:
        raise BodyTooLarge(f"the body has more than {MOST_COMMAS:,} commas; send fewer tokens, or the texts")
    document = parse_json(body)
    if not isinstance(document, dict):
        raise InvalidDocument('the body must be {"model": "...", "input": ...}')
    return document


def _member(document: Mapping[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    if not isinstance(value, kind):
        raise InvalidDocument(f"'{name}' must be there, and a string", parameter=name)
    return value


def _read(document: Mapping[str, Any], question: Question) -> tuple[Inputs, Wish]:
    """What is to be embedded, and how; other members, such as ``user``, are ignored."""
    if "input" not in document:
        raise InvalidDocument("'input' must be there: a text or a list of them", parameter="input")
    width = check_embeds(question.version)
    inputs = read_inputs(document["input"], question.version.manifest.modality, "input")
    encoding = document.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise InvalidParameter("'encoding_format' must be float or base64", parameter="encoding_format")
    truncate = document.get("truncate") or False
    if not isinstance(truncate, bool):
        raise InvalidParameter("'truncate' must be true or false", parameter="truncate")
    wanted = Embedding(
        dimensions=check_dimensions(document.get("dimensions"), width, question.version), as_json=encoding == "float"
    )
    return inputs, Wish(form=inputs.form, embedding=wanted, truncate=truncate)


def check_embeds(version: ModelVersion) -> int:
    """How many dimensions the embeddings of a version have.

    Raises:
        InvalidParameter: it makes none.
    """
    if not embeds(version.manifest):
        raise InvalidParameter(
            f"{version} labels words, and has no vector of a whole text; ask another model", parameter="model"
        )
    return version.manifest.backbone.feature_dim


async def _answer(parts: Sequence[Part], count: int, model: str, width: int, *, as_json: bool) -> tuple[bytes, Headers]:
    rows = rows_of(parts, count, as_json=as_json)
    written: list[bytes] = []
    async for row in in_turns(rows, width):
        vector = row if as_json else b'"%s"' % binascii.b2a_base64(row, newline=False)
        written.append(b'{"object":"embedding","index":%d,"embedding":%s}' % (len(written), vector))
    data = b",".join(written)
    tokens = sum(part.reply.tokens for part in parts)
    tail = orjson.dumps({"model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
    return b'{"object":"list","data":[%s],%s' % (data, tail[1:]), _JSON
