from __future__ import annotations

import json
from http import HTTPStatus

import pytest
from starlette.exceptions import HTTPException

from models.errors import GraftworkError, InvalidJson, Overloaded, RateLimited, Unauthorized, Unavailable
from service.api.problems import from_http_exception, problem


def tree(kind: type[GraftworkError] = GraftworkError) -> list[type[GraftworkError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_every_error_becomes_a_problem(kind: type[GraftworkError]) -> None:
    response = problem(kind("say this"), "id-1")
    assert response.status_code == kind.status
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": "about:blank",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "code": kind.code,
        "detail": "say this",
        "request_id": "id-1",
    }
    assert ("retry-after" in response.headers) is issubclass(kind, (Unavailable, RateLimited))
    assert ("www-authenticate" in response.headers) is issubclass(kind, Unauthorized)


@pytest.mark.parametrize("kind", [Overloaded, RateLimited])
def test_retry_after_is_that_of_the_error(kind: type[Overloaded] | type[RateLimited]) -> None:
    assert problem(kind("full", retry_after_seconds=7), "id").headers["retry-after"] == "7"


def test_further_headers_are_kept() -> None:
    assert problem(InvalidJson("no"), "id", {"Allow": "GET"}).headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "route_not_found"), (405, "method_not_allowed"), (400, "invalid_request"), (413, "invalid_request")],
)
def test_refusals_of_the_framework_get_a_code(status: int, code: str) -> None:
    error = from_http_exception(HTTPException(status), "/there", "PUT")
    assert (error.status, error.code) == (status, code)
    assert problem(error, "id").status_code == status


def test_a_long_path_is_cut() -> None:
    assert len(from_http_exception(HTTPException(404), "/" * 10_000, "GET").message) < 200
