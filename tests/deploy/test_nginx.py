"""deploy/nginx/graftwork.conf in a real nginx: what passes, and what it refuses itself."""

from __future__ import annotations

import hashlib
import re
import shutil
import ssl
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.errors import from_code
from service.settings import ServerSettings
from tests.deploy.proxy import JSON, PREDICT, SHIPPED, Proxy, check_refusal
from tests.deploy.upstream import Stage, digest_of
from tests.processes import wait_for
from tests.server_process import Reply, ServerProcess, json_body
from tests.tiny_models import picture

# The file


def test_its_limits_are_those_of_the_server() -> None:
    server, found = ServerSettings(repository=Path()), directives()
    connections = server.connections
    assert found["client_max_body_size"] == f"{max(server.max_image_bytes, server.max_json_bytes) >> 20}m"
    assert found["large_client_header_buffers"] == f"4 {connections.max_url_bytes >> 10}k"
    assert 4 * connections.max_url_bytes == connections.max_header_bytes
    assert found["client_header_timeout"] == f"{connections.header_timeout_seconds:g}s"
    assert found["send_timeout"] == f"{connections.write_timeout_seconds:g}s"
    assert f"keepalive_timeout {connections.keep_alive_seconds - 15:g}s;" in SHIPPED.read_text()  # to the server
    assert int(found["proxy_read_timeout"].rstrip("s")) > server.request_timeout_seconds


def directives() -> dict[str, str]:
    return dict(re.findall(r"^ +([a-z_]+) ([^;{]+);", SHIPPED.read_text(), re.MULTILINE))


def test_its_codes_are_those_of_the_server() -> None:
    found = dict(re.findall(r"""^ +(\d+|default) '.*"code":"(\w+)".*';$""", SHIPPED.read_text(), re.MULTILINE))
    assert (found.pop("default"), found.pop("403"), found.pop("429")) == ("internal", "forbidden", "too_many_requests")
    assert {str(from_code(code, "").status): code for code in found.values()} == found


def test_every_line_that_is_commented_out_works(stage: Stage) -> None:
    limits = {f"# limit_req{rest}": f"limit_req{rest}" for rest in ("_zone", " zone", "_status")}
    proxy, upstreams = stage(2, changes={**limits, "rate=50r/s": "rate=1r/m", "burst=100": "burst=3"})
    asked = Counter(proxy.ask("GET", "/").status for _ in range(6))
    assert asked == {200: 4, 429: 2}
    assert [len(upstream.received) for upstream in upstreams] == [2, 2]


def test_tls(stage: Stage, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the program openssl, for a certificate")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command = [openssl, *request.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    lines = ("ssl_certificate ", "ssl_certificate_key", "ssl_protocols", "ssl_session_cache", "ssl_session_tickets")
    changes = {
        **{f"# {line}": line for line in lines},
        "/etc/ssl/certs/graftwork.pem": str(certificate),
        "/etc/ssl/private/graftwork.key": str(key),
    }
    proxy, (upstream,) = stage(tls=True, changes=changes)
    context = ssl.create_default_context(cafile=certificate)
    with context.wrap_socket(proxy.connect(), server_hostname="localhost") as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert upstream.received[0].headers["x-forwarded-proto"] == "https"
    check_refusal(proxy.ask("GET", "/v1/models"), 400, "bad_request")  # HTTP on the port of TLS


# What passes


def test_predictions_are_those_of_the_server(proxy: Proxy, server: ServerProcess) -> None:
    large = picture(2, size=(900, 700))
    assert len(large) > 256 << 10  # which nginx keeps in memory
    for path, body, headers in [
        (PREDICT, json_body(["one", "two"]), JSON),
        ("/v1/models/colours:predict?top_k=2", picture(1), {"content-type": "image/png"}),
        ("/v1/models/colours:predict", large, {}),
    ]:
        direct, proxied = (each("POST", path, body, headers) for each in (server.request, proxy.ask))
        assert (proxied.status, proxied.json().keys()) == (200, direct.json().keys())
        for found, expected in zip(proxied.json()["predictions"], direct.json()["predictions"], strict=True):
            assert found["scores"] == pytest.approx(expected["scores"], abs=1e-5)  # which rows share a batch may differ


def without_id(reply: Reply) -> dict[str, object]:
    return {name: value for name, value in reply.json().items() if name != "request_id"}


def test_errors_of_the_server_are_left_as_they_are(proxy: Proxy, server: ServerProcess) -> None:
    largest = bytes(ServerSettings(repository=Path()).max_image_bytes)
    for method, path, body, status in [
        ("GET", "/nowhere", None, 404),
        ("POST", "/v1/models/made-up:predict", b"{}", 404),
        ("PUT", PREDICT, b"{}", 405),
        ("DELETE", "/v1/models/letters", None, 405),
        ("PATCH", "/v1/models", b"", 405),
        ("POST", PREDICT, b"{", 400),
        ("POST", PREDICT, b" " * (3 << 20), 413),  # less than an image may have, and more than a JSON body
        ("POST", "/v1/models/colours:predict", largest, 422),
    ]:
        direct, proxied = (each(method, path, body) for each in (server.request, proxy.ask))
        assert (proxied.status, without_id(proxied)) == (status, without_id(direct))
        assert proxied.headers.get("allow") == direct.headers.get("allow")
        assert proxied.headers["content-type"] == "application/problem+json"


def test_health_for_everybody_but_metrics_for_this_machine(proxy: Proxy) -> None:
    for source in ("127.0.0.1", "127.0.0.2"):
        assert proxy.ask("GET", "/health/live", source=source).json() == {"live": True}
        assert proxy.ask("HEAD", "/health/ready", source=source).status == 200
    assert b"graftwork_requests_total" in proxy.ask("GET", "/metrics").body
    for path in ("/metrics", "//metrics", "/%6detrics", "/v1/../metrics", "/metrics?a", "/metrics#a", "/openapi.json"):
        check_refusal(proxy.ask("GET", path, source="127.0.0.2"), 403, "forbidden")
    for path in ("/%256detrics", "/metrics/", "/metrics;a", "/Metrics"):
        assert b"graftwork_requests_total" not in proxy.ask("GET", path, source="127.0.0.2").body


def test_a_request_has_one_id_everywhere(proxy: Proxy, server: ServerProcess) -> None:
    kept = proxy.ask("POST", PREDICT, json_body(["a"]), {"x-request-id": "mine-1.A_b"})
    assert kept.headers["x-request-id"] == kept.json()["request_id"] == "mine-1.A_b"
    made = proxy.ask("POST", PREDICT, json_body(["a"]), {"x-request-id": 'x","forged":"y'})
    assert re.fullmatch("[0-9a-f]{32}", made.headers["x-request-id"])
    refused = proxy.ask("TRACE", "/v1/models", headers={"x-request-id": "mine-2"})
    assert refused.json()["request_id"] == "mine-2"
    ids = [kept.headers["x-request-id"], made.headers["x-request-id"]]
    wait_for(lambda: {*ids, "mine-2"} <= {line["request_id"] for line in proxy.log()}, 10)
    wait_for(lambda: set(ids) <= {record.get("request_id") for record in server.records()}, 10)
    (line,) = (line for line in proxy.log() if line["request_id"] == "mine-2")
    assert (line["request"], line["status"], line["upstream"]) == ("TRACE /v1/models HTTP/1.1", "405", "")


def test_what_the_server_gets(stage: Stage) -> None:
    proxy, (upstream,) = stage()
    proxy.exchange(
        b"POST http://Example.ORG:81/a//b/%2e%2e/c%2Fd?e=%20 HTTP/1.1\r\nHost: ignored\r\n",
        b"Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nTE: trailers\r\nKeep-Alive: timeout=1\r\n",
        b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: gopher\r\nForwarded: for=6.6.6.6\r\n",
        b"Content_Length: 9\r\nX_Request_Id: underscored\r\nX-Other: kept\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n",
    )
    (request,) = upstream.received
    assert (request.method, request.path) == ("POST", "/a//b/%2e%2e/c%2Fd?e=%20")
    assert request.body == b"abcde"
    headers = dict(request.headers)
    assert re.fullmatch("[0-9a-f]{32}", headers.pop("x-request-id"))
    assert headers == {
        "host": "example.org",
        "x-forwarded-host": "example.org",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-other": "kept",
        "content-length": "5",
    }


def test_connections_to_the_server_stay_open(stage: Stage) -> None:
    proxy, (upstream,) = stage()
    for number in range(20):
        body = b"%d" % number
        assert proxy.ask("POST", "/", body).body == hashlib.sha256(body).hexdigest().encode()
    assert (len(upstream.received), upstream.connections) == (20, 1)


# What nginx refuses itself


def test_a_body_over_the_limit(proxy: Proxy) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nX-Request-Id: big\r\n" % PREDICT.encode()
    for rest in (
        [b"Content-Length: 16777217\r\nExpect: 100-continue\r\n\r\n"],
        [b"Transfer-Encoding: chunked\r\n\r\n", *([b"100000\r\n%s\r\n" % bytes(1 << 20)] * 17), b"0\r\n\r\n"],
    ):
        (refused,) = proxy.exchange(head, *rest)  # and no 100 before it
        check_refusal(refused, 413, "body_too_large")
        assert refused.headers["x-request-id"] == "big"


@pytest.mark.parametrize(
    ("request_line", "headers", "status", "code"),
    [
        ("GET /" + "a" * 8192, "", 414, "url_too_long"),
        ("GET /", "X: " + "a" * 8192 + "\r\n", 431, "headers_too_large"),
        ("GET /", ("X: " + "a" * 1000 + "\r\n") * 33, 431, "headers_too_large"),
        ("TRACE /", "", 405, "method_not_allowed"),
        ("GET /.problem", "", 404, "route_not_found"),
        ("GET /%zz", "", 400, "bad_request"),
        ("GET /a%00", "", 400, "bad_request"),
        ("GET /../../etc/passwd", "", 400, "bad_request"),
        ("GET /", "Host: y\r\n", 400, "bad_request"),
        ("\x16\x03\x01\x02", "", 400, "bad_request"),
        ("PRI *", "", 400, "bad_request"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET /", "", 400, "bad_request"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_refusals_have_the_shape_of_the_servers(
    proxy: Proxy, request_line: str, headers: str, status: int, code: str
) -> None:
    text = f"{request_line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
    (refused,) = proxy.exchange(text.encode("latin-1"))
    check_refusal(refused, status, code)
    if status == 405:
        assert refused.headers["allow"] == "GET, HEAD, POST"


def test_just_below_the_limits(proxy: Proxy) -> None:
    line = f"/health/live?{'a' * 8100}"
    assert proxy.ask("GET", line).status == 200
    headers = {f"X-{number}": "a" * 1000 for number in range(23)}
    assert proxy.ask("GET", "/health/live", headers={**headers, "X": "a" * 8100}).status == 200


def test_no_server(stage: Stage) -> None:
    proxy, (upstream,) = stage()
    upstream.close()
    refused = proxy.ask("POST", PREDICT, json_body(["a"]), JSON)
    check_refusal(refused, 503, "unavailable")
    wait_for(lambda: proxy.log()[-1:] and proxy.log()[-1]["upstream_status"] == "502", 10)


def test_an_address_gets_so_many_requests_at_a_time(stage: Stage) -> None:
    proxy, (upstream,) = stage()
    gate = threading.Event()
    upstream.answer = lambda request: digest_of(request) if gate.wait(60) else b""
    with ThreadPoolExecutor(101) as threads:
        try:
            asked = [threads.submit(proxy.ask, "GET", "/") for _ in range(100)]
            wait_for(lambda: len(upstream.received) == 100, 30)
            check_refusal(proxy.ask("GET", "/"), 429, "too_many_requests")
            elsewhere = threads.submit(proxy.ask, "GET", "/", source="127.0.0.2")
            wait_for(lambda: len(upstream.received) == 101, 30)
        finally:
            gate.set()
        assert {each.result().status for each in [*asked, elsewhere]} == {200}
