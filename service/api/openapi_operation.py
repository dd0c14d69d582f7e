"""An operation of the OpenAPI document: what goes in, what comes out, and every error that it may end with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from operator import attrgetter
from typing import TypeAlias

from models import errors
from models.errors import GraftworkError
from service.api.schemas import SECURITY, Json, ref
from service.auth.key import Scope

Refusals: TypeAlias = Sequence[type[GraftworkError]]
# A status and the codes that it comes with -> what the answer holds, by media type.
ErrorShape: TypeAlias = Callable[[int, Sequence[str]], Json]
StatusOf: TypeAlias = Callable[[type[GraftworkError]], int]

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
    errors.EngineUnavailable,
    errors.DeadlineExceeded,
)
PREDICT: Refusals = (*_PREDICT, errors.InvalidInstances, errors.TooManyInstances)
INFER: Refusals = (
    *(*_PREDICT, errors.InvalidEncoding, errors.InvalidTensor, errors.ShapeOverflow, errors.InvalidValue),
    errors.NotSupported,
)

WHAT_IS_WRONG = "what is wrong, and the cure"  # in the place of every message, in examples
_OWN_STATUS: StatusOf = attrgetter("status")
_HEADERS = {401: ["WWW-Authenticate"], 405: ["Allow"], 429: ["Retry-After"], 503: ["Retry-After"]}


def problem(status: int, codes: Sequence[str]) -> Json:
    """RFC 9457, the shape of errors where a dialect has none of its own."""
    members = {"status": {"const": status}, "code": {"enum": codes}}
    example = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": codes[0],
        "detail": WHAT_IS_WRONG,
        "request_id": "0f8fad5bd9cb469fa16570867728950e",
    }
    schema = {"allOf": [ref("Problem"), {"properties": members}]}
    return {"application/problem+json": {"schema": schema, "example": example}}


def operation(
    name: str,
    summary: str,
    parameters: Sequence[str],
    schema: Json,
    media_type: str = "application/json",
    *,
    scope: Scope | None,
    refusals: Refusals = ANY,
    errors: ErrorShape = problem,
    status_of: StatusOf = _OWN_STATUS,
    examples: Mapping[str, object],
) -> Json:
    """An operation.

    Args:
        name: of the operation, for clients that are generated.
        parameters: names of those in the document.
        schema: of the good answer.
        scope: what a key must allow; None where nobody is asked for one.
        refusals: errors that it may end with, beside those of keys.
        errors: the shape of its errors: that of its dialect.
        status_of: an error, where the dialect has statuses of its own.
        examples: good answers by name. Each is that to the examples of the same name among parameters and bodies; where there
            is one only, it stands for all. A test sends them to a server.
    """
    references = [ref(parameter, "parameters") for parameter in (*parameters, "X-Request-Id")]
    keyed = {"security": SECURITY, "description": f"Where keys are asked for, one that allows `{scope}`."}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": references,
        "responses": {
            "200": _response("OK", {media_type: media(schema, examples)}),
            **_refused((*refusals, *(_KEY if scope else ())), errors, status_of),
        },
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
    errors: ErrorShape = problem,
    status_of: StatusOf = _OWN_STATUS,
    examples: Mapping[str, object],
) -> Json:
    """A path that is only read; see `operation`."""
    options: Json = {"scope": scope, "refusals": refusals, "examples": examples}
    options |= {"errors": errors, "status_of": status_of}
    return {"get": operation(name, summary, parameters, schema, media_type, **options)}


def media(schema: Json, examples: Mapping[str, object]) -> Json:
    """What an answer of one media type holds."""
    return {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}


def _refused(refusals: Refusals, shape: ErrorShape, status_of: StatusOf) -> Json:
    """Each status but that of the good answer, with the codes that it comes with."""
    codes: dict[int, list[str]] = {}
    for kind in refusals:
        codes.setdefault(status_of(kind), []).append(kind.code)
    responses = {}
    for status in sorted(codes):
        title = f"{HTTPStatus(status).phrase}: {', '.join(codes[status])}"
        responses[str(status)] = _response(title, shape(status, codes[status]), *_HEADERS.get(status, []))
    return responses


def _response(description: str, content: Json, *headers: str) -> Json:
    return {
        "description": description,
        "headers": {name: ref(name, "headers") for name in ("X-Request-Id", *headers)},
        "content": content,
    }
