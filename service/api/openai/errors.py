"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}``, each of the four always there."""

from __future__ import annotations

from models.errors import (
    Forbidden,
    GraftworkError,
    NotFound,
    RateLimited,
    RouteNotFound,
    Unauthorized,
    Unavailable,
)

EMBEDDINGS_PATH = "/v1/embeddings"
SHOULD_RETRY = "x-should-retry"  # their clients ask again after any 5xx unless this says "false"; also 504, whose work was in vain already


def openai_document(error: GraftworkError) -> dict[str, object]:
    """The body of the answer to a request that ends with an error."""
    members = {"message": error.message, "type": _type(error), "param": _parameter(error), "code": error.code}
    return {"error": members}


def openai_headers(error: GraftworkError) -> dict[str, str]:
    """What the answer says in its head besides: asking again helps only where the server was busy, or lost a worker."""
    if error.status < 500 or isinstance(error, Unavailable):
        return {}
    return {SHOULD_RETRY: "false"}


def _type(error: GraftworkError) -> str:
    if error.status >= 500:
        return "server_error"
    if isinstance(error, Unauthorized):
        return "authentication_error"
    if isinstance(error, Forbidden):
        return "permission_error"
    return "rate_limit_error" if isinstance(error, RateLimited) else "invalid_request_error"


def _parameter(error: GraftworkError) -> str | None:
    if error.parameter is None and isinstance(error, NotFound) and not isinstance(error, RouteNotFound):
        return "model"
    return error.parameter
