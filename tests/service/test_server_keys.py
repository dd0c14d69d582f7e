"""Who may call, asked of a real server in every way that one may be asked: H10, H11, H13 and H15.

H14 is in `tests.service.api.test_gate`.
"""

from __future__ import annotations

import json
import re

import pytest

from tests.server_process import json_body
from tests.service.guarded import PATH, Guarded, bearer

OPEN = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 ")
    return int(answer[9:12])


def test_health_is_open_and_nothing_else(guarded: Guarded) -> None:
    for path in OPEN:
        assert guarded.server.status_of(path) == 200
    for path in ("/v1/models", "/v1/models/letters", "/v1/models/letters/metadata", "/metrics", "/openapi.json"):
        assert guarded.server.status_of(path) == 401
    assert guarded.ask({}).status == 401


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_either_header_opens(guarded: Guarded, header: str) -> None:
    secret = guarded.predict
    reply = guarded.ask({header: secret if header == "x-api-key" else f"Bearer {secret}"})
    assert reply.status == 200
    assert reply.json()["model"] == "letters"


# H15


WRONG = {
    "none": [],
    "empty": [b"Authorization: "],
    "no scheme": [b"Authorization: %(key)s"],
    "wrong scheme": [b"Authorization: Basic %(key)s"],
    "scheme alone": [b"Authorization: Bearer"],
    "10 KB": [b"Authorization: Bearer " + b"a" * 10_240],
    "10 KB that begin like a key": [b"Authorization: Bearer %(key)s" + b"a" * 10_240],
    "not ASCII": ["Authorization: Bearer gw_käse_ключ".encode()],
    "not UTF-8": [b"Authorization: Bearer gw_\xff\xfe"],
    "unknown id": [b"Authorization: Bearer gw_00000000_" + b"a" * 43],
    "known id, wrong secret": [b"Authorization: Bearer %(id)s" + b"a" * 43],
    "shorter": [b"Authorization: Bearer %(short)s"],
    "revoked": [b"Authorization: Bearer %(revoked)s"],
    "twice the same": [b"Authorization: Bearer %(key)s"] * 2,
    "two": [b"Authorization: Bearer %(key)s", b"Authorization: Bearer %(metrics)s"],
    "two in two headers": [b"Authorization: Bearer %(key)s", b"X-API-Key: %(metrics)s"],
    "in a cookie": [b"Cookie: Authorization=%(key)s; api_key=%(key)s"],
    "as proxy": [b"Proxy-Authorization: Bearer %(key)s"],
}


def answer_to(guarded: Guarded, lines: list[bytes]) -> tuple[int, dict[str, str], dict[str, object]]:
    """Status, headers and document of the answer to a prediction with these lines in its head."""
    known = {
        b"key": guarded.predict.encode(),
        b"metrics": guarded.metrics.encode(),
        b"revoked": guarded.revoked.encode(),
        b"id": guarded.predict[:12].encode(),
        b"short": guarded.predict[:-1].encode(),
    }
    body = json_body(["abc"])
    usual = (b"Host: here", b"Content-Type: application/json", b"Content-Length: %d" % len(body))
    answer = guarded.raw(*usual, *(line % known for line in lines), method="POST", body=body)
    head, _, document = answer.partition(b"\r\n\r\n")
    fields = (line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:])
    return status(answer), {name.lower(): value for name, _, value in fields}, json.loads(document)


@pytest.mark.parametrize("lines", WRONG.values(), ids=WRONG)
def test_h15_whatever_is_wrong_with_a_credential_is_answered_in_one_way(guarded: Guarded, lines: list[bytes]) -> None:
    found, headers, body = answer_to(guarded, lines)
    assert found == 401
    assert headers["www-authenticate"] == "Bearer"
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == body.pop("request_id")
    assert body == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "code": "unauthorized",
        "detail": "this server asks for a key that it knows; send one as Authorization: Bearer KEY",
    }
    assert set(headers) == {"date", "content-length", "content-type", "connection", "www-authenticate", "x-request-id"}


def test_h15_a_key_in_the_address_is_none(guarded: Guarded) -> None:
    for name in ("key", "api_key", "apikey", "access_token", "authorization", "x-api-key"):
        assert guarded.ask({}, f"?{name}={guarded.predict}").status == 401


def test_h15_a_key_opens_its_own_request_and_not_the_next_one_on_the_connection(guarded: Guarded) -> None:
    key = b"Authorization: Bearer " + guarded.metrics.encode()
    keyed, keyless = (b"\r\n".join([b"GET /metrics HTTP/1.1", b"Host: here", *line, b"", b""]) for line in ([key], []))
    last = keyless.replace(b"here", b"here\r\nConnection: close")
    answer = guarded.server.raw(keyed + keyless + keyed + last)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answer) == [b"200", b"401", b"200", b"401"]


def test_h15_a_key_behind_the_body_is_none(guarded: Guarded) -> None:
    body = json_body(["abc"])
    chunks = b"%x\r\n%b\r\n0\r\nAuthorization: Bearer %b\r\n" % (len(body), body, guarded.predict.encode())
    usual = (b"Host: here", b"Content-Type: application/json", b"Transfer-Encoding: chunked", b"Trailer: Authorization")
    assert status(guarded.raw(*usual, method="POST", body=chunks + b"\r\n")) == 401


def test_h15_a_key_for_something_else_is_forbidden(guarded: Guarded) -> None:
    reply = guarded.ask(bearer(guarded.metrics))
    assert (reply.status, reply.json()["code"]) == (403, "forbidden")
    assert "'predict'" in reply.json()["detail"]
    assert guarded.server.request("GET", "/metrics", headers=bearer(guarded.predict)).status == 403


# H10, H11, H13


@pytest.mark.parametrize(
    "host",
    [
        [],
        [b"Host:"],
        [b"Host: a/?x="],
        [b"Host: x/health/live?"],
        [b"Host: x/docs?"],
        [b"Host: " + b"a" * 10_240],
        [b"Host: here", b"Host: there"],
        [b"Host: user@here"],
    ],
    ids=lambda lines: str(lines)[:40],
)
def test_h10_a_host_header_changes_nothing_about_who_may_call(guarded: Guarded, host: list[bytes]) -> None:
    key = b"Authorization: Bearer " + guarded.metrics.encode()
    for path in ("/metrics", "/health/live"):
        for lines in (host, [*host, key]):
            answer = guarded.raw(*lines, path=path)
            assert status(answer) == 400, answer
            assert b"graftwork_" not in answer


@pytest.mark.parametrize("host", [b"Host: evil.example", b"Host: health", b"Host: 127.0.0.1:1", b"Host: [::1]"])
def test_h10_any_well_formed_host_is_the_same_server(guarded: Guarded, host: bytes) -> None:
    assert status(guarded.raw(host, path="/metrics")) == 401
    key = b"Authorization: Bearer " + guarded.metrics.encode()
    assert status(guarded.raw(host, key, path="/metrics")) == 200


FORWARDED = [
    b"X-Forwarded-For: 127.0.0.1",
    b"X-Forwarded-Host: localhost",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Prefix: /health",
    b"X-Real-IP: 127.0.0.1",
    b"Forwarded: for=127.0.0.1;host=localhost;proto=https",
    b"X-Original-URL: /health/live",
    b"X-Rewrite-URL: /health/live",
    b"X-HTTP-Method-Override: GET",
    b"X-HTTP-Method: GET",
    b"X-Method-Override: GET",
    b"X-Forwarded-User: admin",
    b"X-Remote-User: admin",
]


@pytest.mark.parametrize("header", FORWARDED, ids=lambda line: line.split(b":")[0].decode())
def test_h11_what_a_proxy_would_say_is_ignored(guarded: Guarded, header: bytes) -> None:
    assert status(guarded.raw(b"Host: here", header, path="/metrics")) == 401
    key = b"Authorization: Bearer " + guarded.metrics.encode()
    assert b"graftwork_build_info" in guarded.raw(b"Host: here", key, header, path="/metrics")
    answer = guarded.raw(b"Host: here", key, header, path="/metrics", method="DELETE")
    assert status(answer) == 405  # no other method, and no other path


def test_h13_no_page_of_another_site_may_read_an_answer(guarded: Guarded) -> None:
    evil = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    more = {"access-control-request-headers": "authorization", "access-control-request-private-network": "true"}
    for path in (PATH, "/v1/models", "/metrics", "/health/live", "/nowhere"):
        for method in ("OPTIONS", "GET", "POST"):
            for key in ({}, bearer(guarded.predict)):
                reply = guarded.server.request(method, path, headers={**evil, **more, **key})
                assert [name for name in reply.headers if name.startswith("access-control")] == []
                assert method != "OPTIONS" or reply.status in (404, 405)
