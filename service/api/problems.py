"""Errors as responses: RFC 9457 ``application/problem+json``. The one place where an error becomes bytes."""

from __future__ import annotations

from http import HTTPStatus

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from models.errors import GraftworkError, MethodNotAllowed, RateLimited, RouteNotFound, Unauthorized, Unavailable


def problem(error: GraftworkError, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """The response for an error; its ``code`` is what clients may match on."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": error.message,
        "request_id": request_id,
    }
    headers = {**error_headers(error), **(headers or {})}
    return Response(orjson.dumps(body), error.status, headers, "application/problem+json")


def error_headers(error: GraftworkError) -> dict[str, str]:
    """What the answer with an error says in its head, in any dialect."""
    if isinstance(error, (Unavailable, RateLimited)):
        return {"Retry-After": str(error.retry_after_seconds)}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}


def from_http_exception(error: HTTPException, path: str, method: str) -> GraftworkError:
    """Starlette's own refusals (no such route, wrong method) in our terms."""
    if error.status_code == 404:
        return RouteNotFound(f"there is no route {path[:128]}")
    if error.status_code == 405:
        return MethodNotAllowed(f"{path[:128]} does not take {method[:16]}")
    wrapped = GraftworkError(str(error.detail))
    wrapped.status, wrapped.code = error.status_code, "invalid_request"
    return wrapped
