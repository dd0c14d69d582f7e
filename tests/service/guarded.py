"""A real server that asks for keys, and the secrets of some."""

from __future__ import annotations

from collections.abc import Mapping

from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.server_process import Reply, ServerProcess, json_body

PATH = "/v1/models/letters:predict"


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


class Guarded:
    """The server and its keys.

    Attributes:
        file: that it follows.
        predict: the secret of a key for predictions.
        metrics: of one for metrics.
        revoked: of one that was for predictions.
    """

    def __init__(self, server: ServerProcess, file: KeyFile) -> None:
        self.server = server
        self.file = file
        self.metrics = file.create("prometheus", [Scope.METRICS])[1]
        revoked, self.revoked = file.create("old", [Scope.PREDICT])
        file.revoke(revoked.id)
        self.predict = file.create("shop", [Scope.PREDICT])[1]

    def ask(self, headers: Mapping[str, str], query: str = "") -> Reply:
        """Asks for a prediction."""
        return self.server.request(
            "POST", PATH + query, json_body(["abc"]), {"content-type": "application/json", **headers}
        )

    def raw(self, *headers: bytes, method: str = "GET", path: str = PATH, body: bytes = b"") -> bytes:
        """All that is answered to a request with these lines for its head."""
        lines = [f"{method} {path} HTTP/1.1".encode(), *headers, b"Connection: close", b"", body]
        return self.server.raw(b"\r\n".join(lines))
