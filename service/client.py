"""A small HTTP client for ``graftwork predict`` and the demo."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from models.errors import DeadlineExceeded, GraftworkError, InvalidParameter, NotReady, Unauthorized, from_code
from models.version import Reference

# What goes into one request: well under the server's limits. An item that is larger goes alone.
CHUNK_INSTANCES = 16
CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60

Item: TypeAlias = str | tuple[str, str] | bytes | Path


class Client:
    """Talks to one server.

    Args:
        url: such as ``http://127.0.0.1:8000``.
        api_key: the secret of a key, for a server that asks for one.

    Raises:
        InvalidParameter: no key looks like this one.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise InvalidParameter("the key has characters in it that no key has; copy it again")
        self.url = url.rstrip("/")
        self._api_key = api_key
        local = urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")
        self._opener = build_opener(ProxyHandler({})) if local else build_opener()

    def predict(
        self,
        reference: Reference,
        items: Sequence[Item],
        *,
        top_k: int | None = None,
        truncate: bool = False,
    ) -> dict[str, Any]:
        """Predictions for texts, pairs of them or image files, in their order.

        Args:
            items: texts as ``str``, pairs as two of them, image files as ``Path`` or as their bytes.

        Returns:
            ``predictions``, ``model`` and ``version``.

        Raises:
            GraftworkError: what the server said, or that it cannot be reached.
        """
        path = f"/v1/models/{quote(reference.name)}"
        if reference.number is not None:
            path += f"/versions/{reference.number}"
        elif reference.alias is not None:
            path += f"/labels/{quote(reference.alias)}"
        options = {"truncate": str(truncate).lower(), **({} if top_k is None else {"top_k": top_k})}
        answer: dict[str, Any] = {}
        predictions: list[Any] = []
        for instances in _chunks(items):
            answer = self.post(f"{path}:predict?{urlencode(options)}", {"instances": instances})
            predictions.extend(answer["predictions"])
            # The rest goes to the version that answered first, whatever is published meanwhile.
            path = f"/v1/models/{quote(reference.name)}/versions/{answer['version']}"
        return {"predictions": predictions, "model": answer["model"], "version": answer["version"]}

    def post(self, path: str, document: object) -> Any:
        """Sends a JSON document and reads the JSON answer."""
        body = json.dumps(document).encode()
        return json.loads(self._open(Request(self.url + path, body, {"Content-Type": "application/json"})))

    def post_bytes(self, path: str, body: bytes) -> Any:
        """Sends one image file as it is and reads the JSON answer."""
        return json.loads(self._open(Request(self.url + path, body, {"Content-Type": "application/octet-stream"})))

    def get(self, path: str) -> bytes:
        """Reads a resource."""
        return self._open(Request(self.url + path))

    def _open(self, request: Request) -> bytes:
        if self._api_key:
            request.add_unredirected_header("Authorization", f"Bearer {self._api_key}")  # for this server only
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                body: bytes = response.read()
                return body
        except HTTPError as error:
            raise self._error(error) from None
        except TimeoutError:
            raise DeadlineExceeded(f"{self.url} did not answer within {TIMEOUT_SECONDS} s") from None
        except HTTPException:
            raise NotReady(f"{self.url} broke off in the middle of its answer; try again") from None
        except (URLError, ConnectionError):
            raise NotReady(f"there is no server at {self.url}; start one: graftwork serve") from None

    def _error(self, error: HTTPError) -> GraftworkError:
        if error.code == Unauthorized.status:
            what = "does not know this key" if self._api_key else "asks for a key"
            return Unauthorized(f"{self.url} {what}; give one that it knows: --api-key KEY or GRAFTWORK_API_KEY")
        try:
            document = json.loads(error.read())
            return from_code(document["code"], document["detail"])
        except (ValueError, KeyError, TypeError):
            return GraftworkError(f"{self.url} answered {error.code}, but not as a Graftwork server does")


def _chunks(items: Sequence[Item]) -> Iterator[list[object]]:
    chunk: list[object] = []
    size = 0
    for item in items:
        instance = _instance(item)
        length = len(json.dumps(instance))
        if chunk and (len(chunk) == CHUNK_INSTANCES or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(instance)
        size += length
    if chunk:
        yield chunk


def _instance(item: Item) -> object:
    if isinstance(item, str):
        return item
    if isinstance(item, tuple):
        return {"text": item[0], "text_pair": item[1]}
    data = item if isinstance(item, bytes) else item.read_bytes()
    return {"b64": base64.b64encode(data).decode()}
