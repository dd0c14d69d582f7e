"""Errors as responses, in the dialect of the route: the one place where an error becomes bytes of HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from models.errors import GraftworkError, MethodNotAllowed, RateLimited, RouteNotFound, Unauthorized, Unavailable
from service.api.openai.errors import EMBEDDINGS_PATH, openai_document, openai_headers
from service.api.tei.errors import is_tei, tei_document, tei_status


def error_response(
    error: GraftworkError, *, path: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The response for an error; its ``code`` is what clients may match on.

    Args:
        path: that was asked for. Clients below ``/v2`` read ``{"error": "code: message"}``, as the Open Inference Protocol has
            it; those of ``/v1/embeddings`` what OpenAI has; those of TEI's paths what it has; all others RFC 9457, ``application/problem+json``, and those of the
            models' listing, which have both, both in one document.
        request_id: of the request.
        headers: beside those of the error.
    """
    headers = {**error_headers(error), **(headers or {})}
    if is_oip(path):
        document = {"error": f"{error.code}: {error.message}"}
        return Response(orjson.dumps(document), error.status, headers, "application/json")
    if path == EMBEDDINGS_PATH:
        return Response(
            orjson.dumps(openai_document(error)), error.status, {**openai_headers(error), **headers}, "application/json"
        )
    if is_tei(path):
        return Response(orjson.dumps(tei_document(error)), tei_status(error), headers, "application/json")
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": error.message,
        "request_id": request_id,
    }
    if _LISTING.fullmatch(path):
        body |= openai_document(error)
    return Response(orjson.dumps(body), error.status, headers, "application/problem+json")


_LISTING = re.compile(r"/v1/models(?:/[^/]*(?<!:predict))?")


def is_oip(path: str) -> bool:
    """Whether a path is one of the Open Inference Protocol."""
    return path == "/v2" or path.startswith("/v2/")


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
