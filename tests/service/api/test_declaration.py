from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from service.api.application import Application
from service.api.declaration import Declaration, route, routes
from service.api.docs import DocsRoutes
from service.api.gate import Gate
from service.api.metrics import Metrics
from service.api.model_listing import ModelRoutes
from service.api.oip.infer_http import INFER
from service.api.oip.metadata_routes import MetadataRoutes, MissingRoutes
from service.api.oip.repository import RepositoryRoutes
from service.api.oip.statistics import StatisticsRoutes
from service.api.openai.embeddings import EMBEDDINGS
from service.api.openapi import OpenApiRoute
from service.api.tei.info import InfoRoute
from service.api.tei.routes import TEI
from service.api.v1 import PREDICTION
from service.auth.key import Scope
from service.auth.key_file import KeyFile
from service.auth.keyring import Keyring


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(Keyring(KeyFile(tmp_path / "keys.json")), Metrics("0"), on_loopback=True)


def test_a_route_that_does_not_say_what_it_needs_cannot_be_written_down() -> None:
    with pytest.raises(TypeError, match="scope"):

        class Careless:
            @route("GET", "/everything")  # type: ignore[call-arg]
            async def everything(self, request: Request) -> Response:
                return Response()


class Shelf:
    """Two methods of one path in two handlers, two paths in one, and what is no handler."""

    @route("GET", "/books", "/old/books", scope=Scope.METADATA)
    async def books(self, request: Request) -> Response:
        return Response()

    @route("PUT", "/books", scope=Scope.ADMIN)
    @route("DELETE", "/books", scope=Scope.ADMIN)
    async def change(self, request: Request) -> Response:
        return Response()

    async def helper(self, request: Request) -> Response:
        return Response()


def test_a_path_is_one_route_whatever_its_methods(gate: Gate) -> None:
    made = {each.path: each.methods for each in routes(gate, Shelf())}
    assert made == {"/books": {"GET", "HEAD", "PUT", "DELETE"}, "/old/books": {"GET", "HEAD"}}


def test_two_handlers_for_one_question_are_a_mistake(gate: Gate) -> None:
    with pytest.raises(ValueError, match="two handlers for GET /books"):
        routes(gate, Shelf(), Shelf())


def declared(*classes: type) -> dict[tuple[str, str], Scope | None]:
    found = {}
    for each in classes:
        for member in vars(each).values():
            for declaration in getattr(member, "__declarations__", ()):
                assert isinstance(declaration, Declaration)
                found.update(
                    dict.fromkeys([(declaration.method, path) for path in declaration.paths], declaration.scope)
                )
    return found


def test_what_each_route_of_the_server_needs() -> None:
    """Who changes this has thought about it."""
    predictions = [("POST", path) for path in (*PREDICTION.paths, *INFER.paths, *EMBEDDINGS.paths, *TEI.paths)]
    models = ("/v2/models/{name:model}", "/v2/models/{name:model}/versions/{version}")
    missing = ("systemsharedmemory/{rest:path}", "cudasharedmemory/{rest:path}", "trace/setting", "logging")
    of_oip = [("GET", path + end) for path in models for end in ("", "/config", "/ready", "/stats")]
    left_out = [f"/v2/{path}" for path in missing] + [f"{models[0]}/trace/setting"]
    oip = (MetadataRoutes, MissingRoutes, RepositoryRoutes, StatisticsRoutes)
    assert declared(Application, ModelRoutes, InfoRoute, OpenApiRoute, DocsRoutes, *oip) == {
        **dict.fromkeys(predictions, Scope.PREDICT),
        ("GET", "/v2"): Scope.METADATA,
        ("GET", "/v2/models/stats"): Scope.METADATA,
        **dict.fromkeys(of_oip, Scope.METADATA),
        **{(method, path): Scope.METADATA for path in left_out for method in ("GET", "POST")},
        ("GET", "/v1/models"): Scope.METADATA,
        ("GET", "/v1/models/{id:model_id}"): Scope.METADATA,
        ("GET", "/v1/models/{name:model}/metadata"): Scope.METADATA,
        ("GET", "/info"): Scope.METADATA,
        ("GET", "/openapi.json"): Scope.METADATA,
        ("GET", "/docs"): None,
        ("GET", "/docs/{file}"): None,
        ("GET", "/metrics"): Scope.METRICS,
        ("GET", "/health/live"): None,
        ("GET", "/health/ready"): None,
        ("GET", "/health"): None,
        ("GET", "/v2/health/live"): None,
        ("GET", "/v2/health/ready"): None,
        ("POST", "/v2/repository/index"): Scope.METADATA,
        ("POST", "/v2/repository/models/{name:model}/load"): Scope.ADMIN,
        ("POST", "/v2/repository/models/{name:model}/unload"): Scope.ADMIN,
    }
