from __future__ import annotations

import json

import pytest

from models.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    EmptyText,
    Forbidden,
    GraftworkError,
    InvalidInstances,
    InvalidParameter,
    MethodNotAllowed,
    ModelNotFound,
    NotReady,
    Overloaded,
    RateLimited,
    TooManyInstances,
    Unauthorized,
    UnsuitableModel,
    VersionCorrupt,
    WorkerLost,
)
from service.api.problems import error_response
from service.api.tei.errors import HEALTH, INFO, PATHS, tei_error_type, tei_status

TYPES = {"Unhealthy": 503, "Backend": 424, "Overloaded": 429}  # those that TEI has one status for


def tree(kind: type[GraftworkError] = GraftworkError) -> list[type[GraftworkError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]


@pytest.mark.parametrize(
    ("kind", "status", "error_type"),
    [
        (NotReady, 503, "Unhealthy"),
        (WorkerLost, 503, "Unhealthy"),
        (UnsuitableModel, 424, "Backend"),
        (ModelNotFound, 424, "Backend"),
        (VersionCorrupt, 424, "Backend"),
        (GraftworkError, 500, "Backend"),
        (DeadlineExceeded, 504, "Backend"),
        (Overloaded, 429, "Overloaded"),
        (RateLimited, 429, "Overloaded"),
        (EmptyText, 400, "Empty"),
        (ContextLengthExceeded, 413, "Validation"),
        (TooManyInstances, 413, "Validation"),
        (InvalidInstances, 422, "Validation"),
        (InvalidParameter, 422, "Validation"),
        (Unauthorized, 401, "Validation"),
        (Forbidden, 403, "Validation"),
        (MethodNotAllowed, 405, "Validation"),
    ],
)
def test_errors_have_the_statuses_and_types_of_tei(kind: type[GraftworkError], status: int, error_type: str) -> None:
    assert (tei_status(kind), tei_error_type(kind)) == (status, error_type)
    assert (tei_status(kind("no")), tei_error_type(kind("no"))) == (status, error_type)


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_every_error_has_one(kind: type[GraftworkError]) -> None:
    for path in (*PATHS, INFO, HEALTH):
        response = error_response(kind("say this"), path=path, request_id="id")
        document = json.loads(bytes(response.body))
        assert document == {"error": "say this", "error_type": tei_error_type(kind), "code": kind.code}
        assert response.status_code == tei_status(kind)
        assert response.headers["content-type"] == "application/json"
        if response.status_code in TYPES.values():
            assert TYPES[document["error_type"]] == response.status_code
        assert ("retry-after" in response.headers) is (response.status_code in (429, 503))


def test_a_status_that_was_set_is_kept() -> None:
    error = GraftworkError("of the framework")
    error.status = 413
    assert tei_status(error) == 413


@pytest.mark.parametrize("path", ["/embed/", "/embed_all", "/infos", ""])
def test_other_paths_have_their_own_shape(path: str) -> None:
    response = error_response(Overloaded("full"), path=path, request_id="id")
    assert (response.status_code, json.loads(bytes(response.body))["status"]) == (503, 503)
