from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from models.errors import EmptyText, GraftworkError, InvalidParameter, NotReady, Unauthorized
from models.version import Reference
from service.client import CHUNK_BYTES, CHUNK_INSTANCES, Client
from tests.processes import free_port


class Echo(BaseHTTPRequestHandler):
    """Answers a prediction with the instances it was sent, and anything else as it was told to."""

    seen: ClassVar[list[tuple[str, str, Any]]] = []
    refusal: ClassVar[tuple[int, bytes] | None] = None
    keys: ClassVar[list[str | None]] = []
    elsewhere: ClassVar[str | None] = None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-type"] != "application/json":
            self._send(200, json.dumps({"bytes": len(body)}).encode())
            return
        self.keys.append(self.headers["authorization"])
        instances = json.loads(body)["instances"]
        self.seen.append((self.path, self.headers["content-type"], instances))
        answer = {"predictions": instances, "model": "m", "version": 4}
        self._send(*(self.refusal or (200, json.dumps(answer).encode())))

    def do_GET(self) -> None:
        self.keys.append(self.headers["authorization"])
        if self.elsewhere is not None and self.path != "/there":
            self.send_response(302)
            self.send_header("Location", self.elsewhere)
            self.end_headers()
            return
        self._send(200, self.path.encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def client() -> Iterator[Client]:
    server = HTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Echo.seen.clear()
    Echo.keys.clear()
    Echo.refusal = Echo.elsewhere = None
    yield Client(f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        (Reference(name="m"), "/v1/models/m:predict"),
        (Reference(name="m", number=3), "/v1/models/m/versions/3:predict"),
        (Reference(name="m", alias="champion"), "/v1/models/m/labels/champion:predict"),
    ],
)
def test_a_reference_becomes_a_route(client: Client, reference: Reference, path: str) -> None:
    answer = client.predict(reference, ["a text"], top_k=2, truncate=True)
    assert answer == {"predictions": ["a text"], "model": "m", "version": 4}
    assert Echo.seen == [(f"{path}?truncate=true&top_k=2", "application/json", ["a text"])]


def test_images_travel_in_base64(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    encoded = {"b64": base64.b64encode(b"\x89PNG").decode()}
    answer = client.predict(Reference(name="m"), [tmp_path / "a.png", b"\x89PNG"])
    assert answer["predictions"] == [encoded, encoded]


def test_many_items_keep_their_order_over_several_requests(client: Client) -> None:
    texts = [str(number) for number in range(2 * CHUNK_INSTANCES + 1)]
    assert client.predict(Reference(name="m"), texts)["predictions"] == texts
    assert [len(instances) for _, _, instances in Echo.seen] == [CHUNK_INSTANCES, CHUNK_INSTANCES, 1]


def test_large_items_share_no_request_that_would_be_too_large(client: Client) -> None:
    images = [bytes([n]) * (CHUNK_BYTES // 2) for n in range(3)] + [b"small", b"smaller"]
    predictions = client.predict(Reference(name="m"), images)["predictions"]
    assert [base64.b64decode(prediction["b64"]) for prediction in predictions] == images
    assert [len(instances) for _, _, instances in Echo.seen] == [1, 1, 3]


def test_other_requests(client: Client) -> None:
    assert client.get("/v1/models") == b"/v1/models"
    assert client.post_bytes("/x", b"123") == {"bytes": 3}


def test_an_error_of_the_server_is_raised_as_what_it_is(client: Client) -> None:
    Echo.refusal = (422, b'{"code": "empty_text", "detail": "the text is empty"}')
    with pytest.raises(EmptyText, match="the text is empty"):
        client.predict(Reference(name="m"), [""])


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b'{"detail": "x"}', b"\xff"])
def test_an_answer_of_something_else_is_said_so(client: Client, body: bytes) -> None:
    Echo.refusal = (502, body)
    with pytest.raises(GraftworkError, match="answered 502, but not as a Graftwork server does"):
        client.predict(Reference(name="m"), ["a"])


def test_without_a_server_the_cure_is_named() -> None:
    with pytest.raises(NotReady, match="graftwork serve"):
        Client(f"http://127.0.0.1:{free_port()}").get("/v1/models")


def test_a_key_goes_with_every_request_and_to_this_server_only(client: Client) -> None:
    keyed = Client(client.url, "gw_a")
    keyed.predict(Reference(name="m"), ["a text"])
    keyed.get("/x")
    client.get("/x")
    assert Echo.keys == ["Bearer gw_a", "Bearer gw_a", None]
    Echo.elsewhere = f"{client.url}/there"
    assert keyed.get("/x") == b"/there"
    assert Echo.keys[-2:] == ["Bearer gw_a", None]


@pytest.mark.parametrize(("key", "what"), [(None, "asks for a key"), ("gw_a", "does not know this key")])
def test_a_server_that_knows_nobody_here_is_an_error_that_names_the_cure(
    client: Client, key: str | None, what: str
) -> None:
    Echo.refusal = (401, b'{"code": "unauthorized", "detail": "no"}')
    with pytest.raises(Unauthorized, match=f"{what}; give one that it knows: --api-key KEY or GRAFTWORK_API_KEY"):
        Client(client.url, key).predict(Reference(name="m"), ["a"])


@pytest.mark.parametrize("key", ["gw_a\r\nHost: x", "gw_ä", "gw_a\n", "\x00"])
def test_what_cannot_be_sent_as_a_key_is_not(key: str) -> None:
    with pytest.raises(InvalidParameter, match="copy it again"):
        Client("http://127.0.0.1:1", key)
