from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from models.errors import GraftworkError, InvalidJson, Overloaded, RateLimited, Unauthorized, Unavailable
from service.api.problems import error_response, from_http_exception


def tree(kind: type[GraftworkError] = GraftworkError) -> list[type[GraftworkError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]


def answer(error: GraftworkError, request_id: str = "id", headers: Mapping[str, str] | None = None) -> Response:
    return error_response(error, path="/v1/models/a:predict", request_id=request_id, headers=headers)


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_every_error_becomes_a_problem(kind: type[GraftworkError]) -> None:
    response = answer(kind("say this"), "id-1")
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
    assert answer(kind("full", retry_after_seconds=7), "id").headers["retry-after"] == "7"


def test_further_headers_are_kept() -> None:
    assert answer(InvalidJson("no"), "id", headers={"Allow": "GET"}).headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "route_not_found"), (405, "method_not_allowed"), (400, "invalid_request"), (413, "invalid_request")],
)
def test_refusals_of_the_framework_get_a_code(status: int, code: str) -> None:
    error = from_http_exception(HTTPException(status), "/there", "PUT")
    assert (error.status, error.code) == (status, code)
    assert answer(error, "id").status_code == status


def test_a_long_path_is_cut() -> None:
    assert len(from_http_exception(HTTPException(404), "/" * 10_000, "GET").message) < 200


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/models/x/infer"])
def test_clients_of_the_open_inference_protocol_get_one_string(path: str) -> None:
    response = error_response(Overloaded("full", retry_after_seconds=7), path=path, request_id="id")
    assert json.loads(bytes(response.body)) == {"error": "overloaded: full"}
    assert (response.headers["content-type"], response.headers["retry-after"]) == ("application/json", "7")


def test_a_path_that_only_begins_like_theirs_is_not_theirs() -> None:
    assert "code" in json.loads(bytes(error_response(InvalidJson("no"), path="/v2x", request_id="id").body))
