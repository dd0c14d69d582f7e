"""Requests that no client would send, framed as HTTP wants it: broken bodies, odd names, strange headers.

Each request follows from a seed and its number, so that one that went wrong can be sent again:
``odd_request(Random("0 17"), ["letters"], ["champion"])``.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote, urlsplit

from tests.faults import tensor_fuzz
from tests.faults.fuzz_result import GRACE_SECONDS, FuzzResult
from tests.faults.mutation import mutated
from tests.tiny_models import picture

IDLE_SECONDS = 2.0  # a connection that was idle for longer may be closed by the server at any time

PICTURES = [picture(1), picture(2, file_format="JPEG"), picture(3, file_format="WEBP")]
PARTS = [b"a text", *PICTURES]
FORM = b"".join(b'--limit\r\nContent-Disposition: form-data; name="p"\r\n\r\n%s\r\n' % part for part in PARTS)
DOCUMENTS = [
    b'{"instances": ["a text", "another one"]}',
    json.dumps({"instances": [{"b64": base64.b64encode(each).decode()} for each in PICTURES]}).encode(),
    '\ufeff{"instances": ["\u0130\u0301\u202e\U0001f468\u200d\U0001f469"], "more": {"a": [null, true, -0.0]}}'.encode(),
    b'{"instances": [1e999, NaN, -Infinity, 18446744073709551616, "\\ud800", "\\u0000"]}',
    b'{"instances": ' + b"[" * 120 + b"]" * 120 + b"}",
    b'{"instances": ["' + b"long " * 2000 + b'"]}',
    b'{"instances": [' + b'"a",' * 70 + b'"a"]}',
]
BODIES = [  # with the type that fits
    *[(b"application/json", document) for document in [*DOCUMENTS[:3] * 3, *DOCUMENTS]],
    *[(b"image/png", each) for each in PICTURES],
    (b"multipart/form-data; boundary=limit", FORM + b"--limit--\r\n"),
    (b"text/plain", "a text \u00e9\u4e2d\u0301".encode()),
    (b"application/x-www-form-urlencoded", b"a=b&instances=c"),
]
TYPES = [
    *(b"", b"/", b"a/b;;=", b"text/html", b"image/gif", b"application/octet-stream", b"application/x+json"),
    *(b"multipart/form-data", b"multipart/form-data; boundary=", b'multipart/form-data; boundary="'),
    b"application/json; charset=utf-16",
]

PREDICT = ["/v1/models/{0}:predict", "/v1/models/{0}/versions/1:predict"]
PATHS = [
    *PREDICT,
    *(
        "http://example.com/v1/models/{0}:predict",
        "/v1/models/{0}/versions/{1}:predict",
        "/v1/models/{0}/labels/{1}:predict",
        "/v1/models/{0}:explain",
    ),
    *("/v1/models/{0}", "/v1/models/{0}/metadata", "/v1/models/{0}/{1}", "/v1/models/{0}:predict/", "/v1/models"),
    *("/health/live", "/v2/health/ready", "/metrics", "/openapi.json", "/{0}/{1}", "//{0}", "/"),
]
NAMES = [
    *(
        "..",
        ".",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%252e%252e",
        "..%5c",
        "%00",
        "%ff",
        "%",
        "%zz",
        "a%2Fb",
        "a:b",
        ";",
    ),
    *("x" * 300, "nobody", "a%20b", "%EF%BC%AE", "", "*", "a%0d%0aX:y", "1", "01", "-1", "9" * 30, "latest"),
]
METHODS = ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "PROPFIND"]
HEADERS = {
    "X-Request-Id": [b"a-b.c_1", b"x" * 64, b"x" * 65, b'"{}', b""],
    "X-Request-Timeout": [b"5", b"0.5", b"0.001", b"1e2", b"inf", b"0", b"-1", b"nan", b"soon"],
    "Content-Encoding": [b"identity", b" IDENTITY ", b"gzip", b"br", b""],
    "Accept": [b"text/html", b"*"],
    "Accept-Encoding": [b"gzip", b"deflate", b"gzip;q=0, deflate", b"br, *", b";;,"],
    "Range": [b"bytes=0-0"],
    "If-None-Match": [b"*"],
    "Origin": [b"http://example.com"],
    "X-Forwarded-For": [b"127.0.0.1"],
    "X-HTTP-Method-Override": [b"GET"],
    "X-Original-URL": [b"/metrics"],
    "Authorization": [b"Bearer a"],
    "Host": [b"localhost", b"[::1]:1", b"", b"a/?x=", b"x" * 300],
    "Upgrade": [b"h2c", b"websocket"],
    "!#$%&'*+.^_`|~": [b"a token like any other"],
}
OPTIONS = {
    "top_k": ["1", "2", "3", "4", "999999999", "0", "\u0661", "9" * 40],
    "truncate": ["true", "false", "FALSE", "1"],
    "x": ["y", ""],
}

ALPHABETS = [
    *("abc XYZ,.019", "\x00\t\n\x1b\x7f\x85", "\u00e9\u00df\u4e2d\u6587\u3000", "e\u0301\u0327\u202e\u200d\ufeff"),
    *("\U0001f468\U0001f469\U0001f1e9", "\ud800\udfff", '{}[]":\\/', "%&=+;#?"),
]
OCTETS = bytes(octet for octet in range(256) if octet not in b"\r\n")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is sent; a body in chunks has no length beforehand."""

    method: str
    target: str
    headers: Sequence[tuple[str, bytes]]
    body: bytes | Sequence[bytes]


def odd_request(random: Random, models: Sequence[str], aliases: Sequence[str]) -> Request:
    """A request that is odd in a few places, and may get an answer.

    Args:
        random: decides everything.
        models: that exist.
        aliases: that exist.
    """
    if random.random() < 0.5:
        return _inference(random, models, aliases)
    media_type, body = random.choice(BODIES)
    if media_type == b"application/json" and random.random() < 0.3:
        body = json.dumps(_document(random), ensure_ascii=random.random() < 0.7).encode("utf-8", "surrogatepass")
    body = mutated(random, body)
    headers = _headers(random)
    if random.random() < 0.1:
        media_type = random.choice([*TYPES, _octets(random)])
    if media_type:
        headers.append(("Content-Type", media_type))
    return _request(random, _target(random, models, aliases), headers, body)


def _inference(random: Random, models: Sequence[str], aliases: Sequence[str]) -> Request:
    """One in the Open Inference Protocol."""
    headers, body = tensor_fuzz.odd_inference(random)
    path = random.choice(tensor_fuzz.PATHS).format(_name(random, models), _name(random, aliases))
    return _request(random, path, [*_headers(random), *headers], body)


def _request(random: Random, target: str, headers: Sequence[tuple[str, bytes]], body: bytes) -> Request:
    chunks: bytes | list[bytes] = body
    if random.random() < 0.1:
        size = random.randint(1, len(body) + 1)
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
    return Request(
        method="POST" if random.random() < 0.9 else random.choice(METHODS),
        target=target,
        headers=headers,
        body=chunks,
    )


def _target(random: Random, models: Sequence[str], aliases: Sequence[str]) -> str:
    """Path and query."""
    path = random.choice(PREDICT if random.random() < 0.8 else PATHS)
    parameters = []
    for _ in range(random.choice([0, 0, 0, 0, 1, 2])):
        key = random.choice(list(OPTIONS))
        value = random.choice(OPTIONS[key]) if random.random() < 0.9 else _text(random)
        parameters.append(f"{key}={quote(value, errors='replace')}")
    names = [_name(random, models), _name(random, aliases)]
    return path.format(*names) + ("?" + "&".join(parameters) if parameters else "")


def _name(random: Random, known: Sequence[str]) -> str:
    """A segment of a path."""
    if known and random.random() < 0.9:
        return random.choice(known)
    return random.choice([*NAMES, quote(random.randbytes(8), safe=""), quote(_text(random), errors="replace", safe="")])


def _headers(random: Random) -> list[tuple[str, bytes]]:
    """Any but those that say where a message or its connection ends."""
    chosen = random.choices(list(HEADERS), k=random.choice([0, 0, 0, 1, 3]))
    return [(each, _octets(random) if random.random() < 0.2 else random.choice(HEADERS[each])) for each in chosen]


def _octets(random: Random) -> bytes:
    """A header's value; only the visible ones of them are allowed there (RFC 9110, 5.5)."""
    few = OCTETS[31:125] if random.random() < 0.8 else OCTETS
    return bytes(random.choices(few, k=random.choice([0, 1, 5, 30])))


def _document(random: Random) -> Any:
    """Anything, often in the place of the instances or of one of them."""
    value = _value(random, 0)
    return random.choice([value, {"instances": value}, {"instances": [value]}, {"instances": [value, "a"], "x": value}])


def _value(random: Random, depth: int) -> Any:
    if depth > 4 or random.random() < 0.6:
        text = _text(random)
        return random.choice([None, True, 0, -1, 1 << 64, 10**400, 0.1, math.nan, -math.inf, text, text, {"b64": text}])
    inner = [_value(random, depth + 1) for _ in range(random.randrange(4))]
    return inner if random.random() < 0.5 else {random.choice(["b64", _text(random)]): each for each in inner}


def _text(random: Random) -> str:
    alphabets = random.choices(ALPHABETS, k=random.randint(1, 3))
    return "".join(random.choice(random.choice(alphabets)) for _ in range(random.choice([0, 1, 3, 10, 30])))


class KeepAlive:
    """One connection, opened again only when it had to be closed."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        self._used_at = -math.inf

    def ask(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        """Sends it; returns status, headers and body."""
        connection = self._connection
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            connection.close()
        try:
            has_host = any(name == "Host" for name, _ in request.headers)
            connection.putrequest(request.method, request.target, skip_host=has_host, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            if isinstance(request.body, bytes):
                connection.putheader("Content-Length", str(len(request.body)))
                connection.endheaders(request.body)
            else:
                connection.putheader("Transfer-Encoding", "chunked")
                connection.endheaders(iter(request.body), encode_chunked=True)
            response = connection.getresponse()
            body = response.read()
        except BaseException:
            connection.close()
            raise
        self._used_at = time.monotonic()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, body

    def close(self) -> None:
        self._connection.close()


def byte_fuzz(server_url: str, cases: int, models: Sequence[str], aliases: Sequence[str], result: FuzzResult) -> None:
    """Sends so many odd requests over one connection.

    Args:
        server_url: such as ``http://127.0.0.1:8000``.
        cases: how many.
        models: that exist.
        aliases: that exist.
        result: where the answers are counted.
    """
    connection = KeepAlive(server_url, result.deadline + GRACE_SECONDS)
    try:
        for number in range(cases):
            request = odd_request(Random(f"{result.seed} {number}"), models, aliases)
            started = time.monotonic()
            try:
                status, headers, body = connection.ask(request)
            except (OSError, http.client.HTTPException) as error:
                result.fail(f"no answer after {time.monotonic() - started:.2f} s: {error!r}", f"{number}: {request}")
                continue
            result.count(
                f"{number}: {request}",
                {name: value.decode("latin-1") for name, value in reversed(request.headers)},  # the first of two counts
                method=request.method,
                target=request.target,
                status=status,
                headers=headers,
                body=body,
                seconds=time.monotonic() - started,
            )
    finally:
        connection.close()
