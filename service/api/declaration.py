"""A route says what it needs where it is written down, or it cannot be: ``@route("GET", "/metrics", scope=Scope.METRICS)``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.gate import Gate
from service.auth.key import Scope

Handler = Callable[[Request], Awaitable[Response]]
_Method = TypeVar("_Method", bound=Callable[..., Awaitable[Response]])

_DECLARATIONS = "__declarations__"  # where a handler keeps its own


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """Decorates a handler, a method of the object that is given to `routes`; one handler may have several.

    Attributes:
        paths: as `starlette.routing` writes them.
        scope: what a key must allow; None where nobody is asked for one.
    """

    method: str
    paths: tuple[str, ...]
    scope: Scope | None

    def __call__(self, handler: _Method) -> _Method:
        handler.__dict__.setdefault(_DECLARATIONS, []).append(self)
        return handler


def route(method: str, *paths: str, scope: Scope | None) -> Declaration:
    """Declares a handler; ``GET`` answers HEAD too.

    Args:
        method: in upper case.
        paths: that it answers.
        scope: what a key must allow; None where nobody is asked for one.
    """
    return Declaration(method=method, paths=paths, scope=scope)


def routes(gate: Gate, *owners: object) -> list[Route]:
    """The routes of every handler that these objects' classes declare, in their order; there is no other way to make one.

    A path is one route, whatever its methods, so that its 405 names all of them.

    Args:
        gate: what requests pass before they reach a handler.

    Raises:
        ValueError: two handlers for one method of a path.
    """
    answers: dict[str, dict[str, tuple[Scope | None, Handler]]] = {}
    for owner in owners:
        for name, member in vars(type(owner)).items():
            for declaration in getattr(member, _DECLARATIONS, ()):
                for path in declaration.paths:
                    methods = answers.setdefault(path, {})
                    if declaration.method in methods:
                        raise ValueError(f"there are two handlers for {declaration.method} {path}")
                    methods[declaration.method] = (declaration.scope, getattr(owner, name))
    return [Route(path, _endpoint(gate, methods), methods=list(methods)) for path, methods in answers.items()]


def _endpoint(gate: Gate, methods: Mapping[str, tuple[Scope | None, Handler]]) -> Handler:
    async def endpoint(request: Request) -> Response:
        scope, handler = methods["GET" if request.method == "HEAD" else request.method]
        gate.admit(request.scope, scope)
        return await handler(request)

    return endpoint
