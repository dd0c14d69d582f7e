"""Errors as TEI's clients read them: ``{"error", "error_type"}`` with TEI's statuses; ``code`` is ours."""

from __future__ import annotations

from typing import Literal, TypeAlias

from models.errors import (
    ContextLengthExceeded,
    EmptyBody,
    EmptyText,
    GraftworkError,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    RouteNotFound,
    TooManyConnections,
    VersionCorrupt,
)

EMBED, PREDICT, RERANK, SIMILARITY, ROOT = PATHS = ("/embed", "/predict", "/rerank", "/similarity", "/")
INFO, HEALTH = "/info", "/health"
_PATHS = frozenset((*PATHS, INFO, HEALTH))

ErrorType: TypeAlias = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]
_Error: TypeAlias = GraftworkError | type[GraftworkError]


def is_tei(path: str) -> bool:
    """Whether a path is one of TEI's."""
    return path in _PATHS


def tei_document(error: GraftworkError) -> dict[str, object]:
    """The body of the answer to a request that ends with an error."""
    return {"error": error.message, "error_type": tei_error_type(error), "code": error.code}


def tei_status(error: _Error) -> int:
    """The status that it has here, or one of its class has."""
    kind = error if isinstance(error, type) else type(error)
    if issubclass(kind, (Overloaded, TooManyConnections)):
        return 429
    if issubclass(kind, ContextLengthExceeded):
        return 413
    if issubclass(kind, EmptyText):
        return 400
    if kind is InvalidParameter:
        return 422
    if issubclass(kind, VersionCorrupt):  # the one model, which is not to blame on the request
        return 424
    if issubclass(kind, NotFound) and not issubclass(kind, (RouteNotFound, MethodNotAllowed)):
        return 424
    return error.status


def tei_error_type(error: _Error) -> ErrorType:
    """Which of TEI's six types it is; what TEI does not know goes with the one whose cure is the same."""
    kind = error if isinstance(error, type) else type(error)
    if issubclass(kind, (EmptyBody, EmptyText)):
        return "Empty"
    match tei_status(error):
        case 429:
            return "Overloaded"
        case 503:
            return "Unhealthy"
        case status if status == 424 or status >= 500:
            return "Backend"
    return "Validation"
