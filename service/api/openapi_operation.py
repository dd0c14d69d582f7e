"""An operation of the OpenAPI document: what goes in, what comes out, and every error that it may end with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TypeAlias

from models import errors
from models.errors import GraftworkError
from service.api.schemas import SECURITY, Json, ref
from service.auth.key import Scope

Refusals: TypeAlias = Sequence[type[GraftworkError]]

# What routes may refuse.
_KEY: Refusals = (errors.Unauthorized, errors.Forbidden, errors.RateLimited)
ANY: Refusals = (
    *(GraftworkError, errors.BadRequest, errors.RequestTimeout, errors.UrlTooLong, errors.HeadersTooLarge),
    errors.TooManyConnections,
)
READY: Refusals = (*ANY, errors.NotReady)
MODEL: Refusals = (
    *(*READY, errors.InvalidParameter),
    *(errors.RouteNotFound, errors.MethodNotAllowed, errors.ModelNotFound),
)
VERSION: Refusals = (*MODEL, errors.VersionCorrupt, errors.VersionNotLoaded)
CHANGE: Refusals = (
    *(*MODEL, errors.VersionNotFound, errors.VersionCorrupt, errors.CrossSite, errors.UnsupportedMediaType),
    *(errors.EmptyBody, errors.BodyTooLarge, errors.InvalidUtf8, errors.InvalidJson, errors.InvalidDocument),
    *(errors.Conflict, errors.VersionInUse, errors.PromotionRefused, errors.StorageFailed, errors.DeadlineExceeded),
)
_PREDICT: Refusals = (
    *(*VERSION, errors.VersionNotFound, errors.UnsupportedMediaType, errors.EmptyBody, errors.BodyTooLarge),
    *(errors.InvalidJson, errors.JsonTooDeep, errors.InvalidUtf8, errors.InvalidUnicode, errors.NonFinite),
    errors.InvalidBase64,
    *(errors.EmptyText, errors.TextTooLong, errors.ContextLengthExceeded),
    *(errors.FormatNotAllowed, errors.ImageTooManyPixels, errors.AspectRatio),
    *(errors.ImageTruncated, errors.ImageUndecodable),
    *(errors.Overloaded, errors.WorkerLost, errors.WorkerCrashed, errors.OutOfMemory, errors.DeviceFailed),
    errors.DeadlineExceeded,
)
PREDICT: Refusals = (*_PREDICT, errors.InvalidInstances, errors.TooManyInstances)
INFER: Refusals = (
    *(*_PREDICT, errors.InvalidEncoding, errors.InvalidTensor, errors.ShapeOverflow, errors.InvalidValue),
    errors.NotSupported,
)

_HEADERS = {401: ["WWW-Authenticate"], 405: ["Allow"], 429: ["Retry-After"], 503: ["Retry-After"]}


def operation(
    name: str,
    summary: str,
    parameters: Sequence[str],
    schema: Json,
    media_type: str = "application/json",
    *,
    scope: Scope | None,
    refusals: Refusals = ANY,
    oip: bool = False,
) -> Json:
    """An operation.

    Args:
        name: of the operation, for clients that are generated.
        parameters: names of those in the document.
        schema: of the good answer.
        scope: what a key must allow; None where nobody is asked for one.
        refusals: errors that it may end with, beside those of keys.
        oip: whether its errors have the Open Inference Protocol's shape.
    """
    references = [ref(parameter, "parameters") for parameter in (*parameters, "X-Request-Id")]
    keyed = {"security": SECURITY, "description": f"Where keys are asked for, one that allows `{scope}`."}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": references,
        "responses": _responses(schema, media_type, (*refusals, *(_KEY if scope else ())), _error if oip else _problem),
        **(keyed if scope else {}),
    }


def get(
    name: str,
    summary: str,
    schema: Json,
    *parameters: str,
    scope: Scope | None,
    refusals: Refusals = ANY,
    media_type: str = "application/json",
    oip: bool = False,
) -> Json:
    """A path that is only read; see `operation`."""
    found = operation(name, summary, parameters, schema, media_type, scope=scope, refusals=refusals, oip=oip)
    return {"get": found}


def _responses(
    schema: Json, media_type: str, refusals: Refusals, error: Callable[[int, Sequence[str]], tuple[str, Json]]
) -> Json:
    """The good answer, and each other status with the codes that it comes with."""
    codes: dict[int, list[str]] = {}
    for kind in refusals:
        codes.setdefault(kind.status, []).append(kind.code)
    responses = {"200": _response("OK", media_type, schema)}
    for status in sorted(codes):
        title = f"{HTTPStatus(status).phrase}: {', '.join(codes[status])}"
        responses[str(status)] = _response(title, *error(status, codes[status]), *_HEADERS.get(status, []))
    return responses


def _problem(status: int, codes: Sequence[str]) -> tuple[str, Json]:
    members = {"status": {"const": status}, "code": {"enum": codes}}
    return "application/problem+json", {"allOf": [ref("Problem"), {"properties": members}]}


def _error(status: int, codes: Sequence[str]) -> tuple[str, Json]:
    members = {"error": {"pattern": f"^({'|'.join(codes)}): "}}
    return "application/json", {"allOf": [ref("InferError"), {"properties": members}]}


def _response(description: str, media_type: str, schema: Json, *headers: str) -> Json:
    return {
        "description": description,
        "headers": {name: ref(name, "headers") for name in ("X-Request-Id", *headers)},
        "content": {media_type: {"schema": schema}},
    }
