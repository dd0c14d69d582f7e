"""What both clients tell the library that speaks HTTP, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypedDict
from urllib.parse import urlsplit

import httpx2

from models.errors import InvalidParameter
from service.client.call import Failure

CONNECT_SECONDS = 5.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0)
_UNREACHABLE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)


class Options(TypedDict):
    """Of `httpx2.Client` and `httpx2.AsyncClient`."""

    headers: dict[str, str]
    limits: httpx2.Limits
    mounts: dict[str, None]
    trust_env: bool


def options(urls: Sequence[str]) -> Options:
    """Those for some servers: this machine is never asked through a proxy.

    Args:
        urls: of the servers.
    """
    mounts = {f"all://[{host}]" if ":" in host else f"all://{host}": None for host in LOOPBACK}
    local = all(urlsplit(url).hostname in LOOPBACK for url in urls)
    headers = {"User-Agent": "graftwork", "Accept": "application/json, */*"}
    return Options(headers=headers, limits=_LIMITS, mounts=mounts, trust_env=not local)


@contextmanager
def explaining_proxies() -> Iterator[None]:
    """While a client is made: says so where the environment names a proxy that it cannot use."""
    try:
        yield
    except (ImportError, ValueError) as error:
        names = "HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"
        raise InvalidParameter(f"a proxy of the environment cannot be used ({error}); see {names}") from error


def timeouts(seconds: float) -> httpx2.Timeout:
    """For a request that is given up after so many seconds; a connection is made sooner or not at all."""
    return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))


def failure_of(error: Exception) -> Failure:
    """What an error while a request was sent or an answer was read says about either."""
    if isinstance(error, _UNREACHABLE):
        return Failure(kind="unreachable", reason=str(error))
    if isinstance(error, (httpx2.TimeoutException, TimeoutError)):
        return Failure(kind="timed out")
    return Failure(kind="broken off", reason=str(error))
