from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from models.errors import (
    DeadlineExceeded,
    EmptyText,
    GraftworkError,
    InvalidParameter,
    ModelNotFound,
    NotReady,
    Unauthorized,
)
from models.version import Reference
from service.client import Client, Predictions, SingleLabel, VersionStatus
from service.client.items import CHUNK_BYTES, CHUNK_ITEMS
from tests.processes import free_port
from tests.server_process import ServerProcess
from tests.service.client.service import predicted


class Echo(BaseHTTPRequestHandler):
    """Answers a prediction with the instances it was sent as labels, and anything else as it was told to."""

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
        self._send(*(self.refusal or (200, json.dumps(predicted(*instances)).encode())))

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
    with Client(f"http://127.0.0.1:{server.server_port}/", retries=0) as client:
        yield client
    server.shutdown()
    thread.join()
    server.server_close()


def labels(answer: Predictions) -> list[Any]:
    """What the echo says it was sent."""
    return [prediction.label for prediction in answer.predictions if isinstance(prediction, SingleLabel)]


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        (Reference(name="m"), "/v1/models/m:predict"),
        (Reference(name="m", number=3), "/v1/models/m/versions/3:predict"),
        (Reference(name="m", alias="champion"), "/v1/models/m/labels/champion:predict"),
    ],
)
def test_a_reference_becomes_a_route(client: Client, reference: Reference, path: str) -> None:
    for asked in (reference, str(reference)):
        Echo.seen.clear()
        answer = client.predict(asked, ["a text"], top_k=2, truncate=True)
        assert answer.to_dict() == predicted("a text")
        assert Echo.seen == [(f"{path}?truncate=true&top_k=2", "application/json", ["a text"])]


def test_images_travel_in_base64(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    encoded = {"b64": base64.b64encode(b"\x89PNG").decode()}
    answer = client.predict(Reference(name="m"), [tmp_path / "a.png", b"\x89PNG"])
    assert labels(answer) == [encoded, encoded]


def test_many_items_keep_their_order_over_several_requests(client: Client) -> None:
    texts = [str(number) for number in range(2 * CHUNK_ITEMS + 1)]
    assert labels(client.predict("m", texts)) == texts
    assert [len(instances) for _, _, instances in Echo.seen] == [CHUNK_ITEMS, CHUNK_ITEMS, 1]
    assert Echo.seen[-1][0] == "/v1/models/m/versions/4:predict?truncate=false"


def test_large_items_share_no_request_that_would_be_too_large(client: Client) -> None:
    images = [bytes([n]) * (CHUNK_BYTES // 2) for n in range(3)] + [b"small", b"smaller"]
    found = labels(client.predict(Reference(name="m"), images))
    assert [base64.b64decode(label["b64"]) for label in found] == images
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


@pytest.mark.parametrize(
    ("status", "kind"), [(500, GraftworkError), (502, NotReady), (503, NotReady), (504, DeadlineExceeded)]
)
def test_a_proxy_without_a_server_is_no_error_of_the_server(client: Client, status: int, kind: type[Exception]) -> None:
    Echo.refusal = (status, b"<html></html>")
    with pytest.raises(GraftworkError, match=f"answered {status}, but not as") as raised:
        client.predict("m", ["a"])
    assert type(raised.value) is kind


def test_without_a_server_the_cure_is_named() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", retries=0) as client:
        with pytest.raises(NotReady, match="graftwork serve"):
            client.get("/v1/models")
        assert not client.is_ready()


def test_a_key_goes_with_every_request_and_to_this_server_only(client: Client) -> None:
    with Client(client.url, "gw_a") as keyed:
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
    cure = f"{what}; give one that it knows: --api-key KEY or GRAFTWORK_API_KEY"
    with Client(client.url, key) as other, pytest.raises(Unauthorized, match=cure):
        other.predict(Reference(name="m"), ["a"])


@pytest.mark.parametrize("key", ["gw_a\r\nHost: x", "gw_ä", "gw_a\n", "\x00"])
def test_what_cannot_be_sent_as_a_key_is_not(key: str) -> None:
    with pytest.raises(InvalidParameter, match="copy it again"):
        Client("http://127.0.0.1:1", key)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"predictions": [], "model": "m", "version": 1, "request_id": "r"}']
)
def test_a_200_that_is_no_answer_is_said_so(client: Client, body: bytes) -> None:
    Echo.refusal = (200, body)
    with pytest.raises(GraftworkError, match="answered 200, but not as a Graftwork server does"):
        client.predict("m", ["a"])


def test_a_file_that_cannot_be_read_is_named(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"gone\.png cannot be read: No such file or directory"):
        client.predict("m", [tmp_path / "gone.png"])


@pytest.mark.parametrize("items", ["a text", b"bytes", Path("a.png"), []])
def test_items_come_in_a_list_that_is_not_empty(client: Client, items: Any) -> None:
    with pytest.raises(InvalidParameter, match=r"in a list|nothing to predict"):
        client.predict("m", items)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"deadline": -1}, {"retries": -1}])
def test_times_and_retries_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match="seconds above 0"):
        Client("http://127.0.0.1:1", **options)


def test_this_machine_is_never_asked_through_a_proxy(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with Client([client.url, "http://elsewhere.invalid"], retries=0) as proxied:
        assert proxied.get("/x") == b"/x"


def test_a_proxy_that_cannot_be_used_is_said_where_one_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:1")
    Client("http://127.0.0.1:1").close()
    with pytest.raises(InvalidParameter, match="a proxy of the environment cannot be used"):
        Client("http://elsewhere.invalid")


def test_to_import_it_loads_no_heavy_library() -> None:
    code = (
        "import sys, service.client\n"
        "heavy = {'torch', 'numpy', 'timm', 'transformers', 'litserve', 'fastapi', 'starlette', 'grpc', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_real_server_says_what_it_serves(server: ServerProcess) -> None:
    with Client(f"http://127.0.0.1:{server.port}") as client:
        assert client.is_ready()
        assert client.models() == ["colours", "letters", "moods"]
        status = client.model("letters")
        assert (status.name, status.ready, status.default_version) == ("letters", True, 1)
        assert status.versions == (VersionStatus(version=1, state="ready"),)
        assert client.metadata("letters")["task"] == "single-label"
        answer = client.predict("letters:1", ["one", "two"], top_k=1)
        assert (answer.model, answer.version, len(answer.predictions)) == ("letters", 1, 2)
        with pytest.raises(ModelNotFound, match="did you mean 'letters'"):
            client.model("letter")
