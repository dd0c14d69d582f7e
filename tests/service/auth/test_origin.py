from __future__ import annotations

import pytest

from models.errors import CrossSite, UnsupportedMediaType
from service.auth.origin import check_same_site

JSON = (b"content-type", b"application/json")
BODY = (b"content-length", b"2")


def check(*headers: tuple[bytes, bytes], host: bytes | None = b"127.0.0.1:8000", on_loopback: bool = True) -> None:
    check_same_site([*([] if host is None else [(b"host", host)]), *headers], on_loopback=on_loopback)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [BODY, JSON],
        [BODY],  # tritonclient's
        [(b"transfer-encoding", b"chunked")],
        [BODY, (b"content-type", b"Application/JSON; charset=utf-8")],
        [(b"content-length", b"0")],
        [(b"sec-fetch-site", b"none")],
        [(b"sec-fetch-site", b"same-origin"), (b"origin", b"http://127.0.0.1:8000"), BODY, JSON],
        [(b"origin", b"HTTP://127.0.0.1:8000")],
    ],
    ids=repr,
)
def test_programs_and_own_pages_pass(headers: list[tuple[bytes, bytes]]) -> None:
    check(*headers)


@pytest.mark.parametrize(
    "header",
    [
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-site", b"same-site"),  # another server of this machine is another site, to us
        (b"sec-fetch-site", b""),
        (b"origin", b"null"),
        (b"origin", b""),
        (b"origin", b"http://evil.example"),
        (b"origin", b"http://127.0.0.1"),
        (b"origin", b"http://127.0.0.1:3000"),
        (b"origin", b"http://localhost:8000"),
        (b"origin", b"http://127.0.0.1:8000.evil.example"),
        (b"origin", b"http://evil.example@127.0.0.1:8000"),
        (b"origin", b"http://127.0.0.1:8000/"),
        (b"origin", b"chrome-extension://127.0.0.1:8000"),
        (b"origin", b"http://127.0.0.1:8000\xff"),
    ],
    ids=repr,
)
def test_pages_of_other_sites_do_not(header: tuple[bytes, bytes]) -> None:
    for rest in (
        [BODY, JSON],
        [BODY],
        [],
    ):  # what a script sends need not say its type, but it says where it comes from
        with pytest.raises(CrossSite):
            check(header, *rest)


@pytest.mark.parametrize("name", [b"origin", b"sec-fetch-site", b"content-type"])
def test_a_header_that_comes_twice_is_none_of_both(name: bytes) -> None:
    good = {b"origin": b"http://127.0.0.1:8000", b"sec-fetch-site": b"none", b"content-type": b"application/json"}[name]
    check((name, good))
    with pytest.raises((CrossSite, UnsupportedMediaType)):
        check((name, good), (name, b"http://evil.example"))
    with pytest.raises((CrossSite, UnsupportedMediaType)):
        check((name, b"text/plain"), (name, good))


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"models.example", b"https://models.example"),
        (b"models.example", b"http://models.example"),
        (b"models.example:443", b"https://models.example"),
        (b"models.example", b"https://models.example:443"),
        (b"Models.Example:8443", b"https://models.example:8443"),
        (b"[2001:db8::1]:80", b"http://[2001:db8::1]"),
        (b"[2001:db8::1]", b"http://[2001:db8::1]"),
    ],
)
def test_an_origin_is_the_host_itself_with_or_without_the_usual_port(host: bytes, origin: bytes) -> None:
    check((b"origin", origin), host=host, on_loopback=False)
    with pytest.raises(CrossSite):
        check((b"origin", origin + b"1"), host=host, on_loopback=False)


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:8000", b"127.0.0.1", b"127.1.2.3:80", b"[::1]", b"[::1]:8000"]
)
def test_on_the_loopback_address_its_own_names_are_taken(host: bytes) -> None:
    check(host=host)


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example:8000",
        b"127.0.0.1.nip.io",
        b"10.0.0.1",
        b"0.0.0.0:8000",
        b"2130706433",
        b"[2001:db8::1]",
        b"",
        b"localhost@evil.example",
        None,
    ],
    ids=repr,
)
def test_a_name_that_was_made_to_lead_here_is_not(host: bytes | None) -> None:
    for headers in ([], [BODY], [BODY, JSON]):
        with pytest.raises(CrossSite, match=r"ask 127\.0\.0\.1 or localhost"):
            check(*headers, host=host)
    check(host=host, on_loopback=False)


@pytest.mark.parametrize(
    "headers",
    [
        [BODY, (b"content-type", b"text/plain")],
        [(b"content-type", b"text/plain")],
        [BODY, (b"content-type", b"text/ping")],
        [BODY, (b"content-type", b"text/plain; application/json")],
        [BODY, (b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"multipart/form-data; boundary=x")],
        [BODY, (b"content-type", b"")],
    ],
    ids=repr,
)
def test_a_body_that_says_that_it_is_no_json_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(UnsupportedMediaType, match="send application/json"):
        check(*headers)
