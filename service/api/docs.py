"""Swagger UI on this server: what ``/openapi.json`` says, in a browser, without a network.

Page and scripts hold no secret and need no key. The document needs one where there are keys, and the page asks for it.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from models.errors import RouteNotFound
from service.api.declaration import route
from service.api.oip.compression import accepted_encoding

_PAGE = Path(__file__).with_name("docs_page")
_SWAGGER_UI = "fastapi_offline"  # the package that has its files; nothing of it is imported
_HEADERS = {
    # Nothing comes from elsewhere, and no script stands in the page. Swagger UI sets styles of single elements.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file as it is sent.

    Attributes:
        digest: stands in the addresses that the page has, so that they may be kept for ever.
    """

    content: bytes
    compressed: bytes
    media_type: str
    digest: str

    def response(self, request: Request) -> Response:
        """The answer to a request: 304 where the client has the file."""
        etag = f'W/"{self.digest}"'  # weak: the same with gzip and without
        kept = "public, max-age=31536000, immutable" if request.query_params.get("v") == self.digest else "no-cache"
        headers = {**_HEADERS, "ETag": etag, "Cache-Control": kept}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if accepted_encoding(request.headers.get("accept-encoding", "")) == "gzip":
            headers["Content-Encoding"] = "gzip"
            return Response(self.compressed, headers=headers, media_type=self.media_type)
        return Response(self.content, headers=headers, media_type=self.media_type)


class DocsRoutes:
    """The handler of ``GET /docs`` and of what the page loads; files are read for the first who asks.

    Args:
        is_served: whether there are such routes now.
    """

    def __init__(self, is_served: Callable[[], bool]) -> None:
        self._is_served = is_served
        self._assets: Mapping[str, Asset] = {}

    @route("GET", "/docs", "/docs/{file}", scope=None)
    async def docs(self, request: Request) -> Response:
        """``GET /docs``: the page; below it, its scripts and its style."""
        path = request.scope["path"]
        if self._is_served():
            # They are read twice for two who ask first at the same moment, which harms nobody.
            self._assets = self._assets or await asyncio.to_thread(_assets)
            if path in self._assets:
                return self._assets[path].response(request)
        raise RouteNotFound(f"there is no route {path[:128]}")


def swagger_ui() -> Path:
    """The folder of Swagger UI's files.

    Raises:
        RouteNotFound: they are not installed.
    """
    spec = find_spec(_SWAGGER_UI)
    for package in (spec and spec.submodule_search_locations) or ():
        folder = Path(package) / "static"
        if (folder / "swagger-ui-bundle.js").is_file() and (folder / "swagger-ui.css").is_file():
            return folder
    raise RouteNotFound("there is no page: the files of Swagger UI are missing; pip install fastapi-offline")


def _assets() -> Mapping[str, Asset]:
    """By path."""
    folder = swagger_ui()
    assets = {
        "/docs/swagger-ui-bundle.js": _asset((folder / "swagger-ui-bundle.js").read_bytes(), "text/javascript"),
        "/docs/swagger-ui.css": _asset((folder / "swagger-ui.css").read_bytes(), "text/css"),
        "/docs/init.js": _asset((_PAGE / "init.js").read_bytes(), "text/javascript"),
    }
    page = (_PAGE / "index.html").read_text()
    for path, asset in assets.items():
        page = page.replace(f'"{path}"', f'"{path}?v={asset.digest}"')
    return {**assets, "/docs": _asset(page.encode(), "text/html")}


def _asset(content: bytes, media_type: str) -> Asset:
    digest = sha256(content).hexdigest()[:16]
    return Asset(content=content, compressed=gzip.compress(content, mtime=0), media_type=media_type, digest=digest)
