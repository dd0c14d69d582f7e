"""Whether a request may come from a page of another site, in the browser of somebody who may do more than that site.

Browsers send a page's requests to any server, also to one on this machine that nobody else reaches, and to one that the page's
own name was made to lead to (DNS rebinding). What changes a server must not be asked for in that way. Programs send none of
the headers that browsers cannot leave out, and are not concerned.

A body of another type than JSON is refused, because forms of old browsers come without an ``Origin``. One without any type passes:
clients of the Open Inference Protocol send none, and forms always have one. A page can leave it out with a script only
(``fetch`` or ``sendBeacon`` of plain bytes), and whatever a script posts to another site has an ``Origin``, ``null`` at least. A
page whose own name was made to lead here may name any type that it likes: what stops it is its name, on the loopback
address, and elsewhere the key that it does not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from models.errors import CrossSite, UnsupportedMediaType

_ORIGIN = re.compile(rb"(?P<scheme>https?)://(?P<authority>[^/?#@\s]+)", re.IGNORECASE)
_PORTS = {b"http": b"80", b"https": b"443"}
_READ = frozenset((b"host", b"origin", b"sec-fetch-site", b"content-type"))


def check_same_site(headers: Iterable[tuple[bytes, bytes]], *, on_loopback: bool) -> None:
    """Lets pass what no page of another site can send.

    Args:
        headers: of the request, with names in lower case.
        on_loopback: whether the server is bound to the loopback address, where it has no other name.

    Raises:
        CrossSite: a browser says that another site asks, or the name that was asked for is not this machine's own.
        UnsupportedMediaType: the body says that it is no JSON: forms and plain text are what browsers send without asking first.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _READ:
            found[name] = value if name not in found else found[name] + b", " + value  # matches nothing any more
    host = found.get(b"host", b"")
    if on_loopback and not _is_loopback(host):
        raise CrossSite("this server answers this request under a loopback name only; ask 127.0.0.1 or localhost")
    if found.get(b"sec-fetch-site", b"none").lower() not in (b"same-origin", b"none"):
        raise CrossSite("this request is not taken from pages of other sites; ask from the command line")
    origin = found.get(b"origin")
    if origin is not None and not _is_host(origin, host):
        raise CrossSite("this request is not taken from pages of other sites; ask from the command line")
    media_type = found.get(b"content-type", b"application/json")
    if media_type.partition(b";")[0].strip().lower() != b"application/json":
        raise UnsupportedMediaType("a body of this type is not accepted; send application/json")


def _is_loopback(host: bytes) -> bool:
    name, _ = _split(host)
    if name == b"localhost":
        return True
    try:
        return ip_address(name.strip(b"[]").decode("ascii")).is_loopback
    except ValueError:
        return False


def _is_host(origin: bytes, host: bytes) -> bool:
    """Whether a page of this origin came from the host that it asks; a proxy may have added TLS."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:  # null, an extension, ...
        return False
    port = _PORTS[match["scheme"].lower()]
    mine, its = _split(host), _split(match["authority"])
    return (mine[0], mine[1] or port) == (its[0], its[1] or port)


def _split(authority: bytes) -> tuple[bytes, bytes]:
    """Name and port, in lower case; the name of an IPv6 address has its brackets."""
    name, colon, port = authority.lower().rpartition(b":")
    if not colon or port.endswith(b"]"):
        return authority.lower(), b""
    return name, port
