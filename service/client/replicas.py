"""The addresses of one service: which is asked first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from models.errors import InvalidParameter, shown

PAUSE_SECONDS = 30.0


class Replicas:
    """They are asked in the order in which they were given; one that failed comes last for a while.

    Args:
        urls: such as ``http://127.0.0.1:8000``; at least one.
        clock: in seconds.

    Raises:
        InvalidParameter: one of them is no address of a server.
    """

    def __init__(self, urls: Sequence[str], clock: Callable[[], float]) -> None:
        if not urls:
            raise InvalidParameter("there is no server to ask; name one, such as http://127.0.0.1:8000")
        self.urls = tuple(dict.fromkeys(_checked(url) for url in urls))
        self._clock = clock
        self._avoided_until: dict[str, float] = {}

    def in_order(self) -> Sequence[str]:
        """All of them, the one to ask first in front."""
        now = self._clock()
        # Those that are avoided now keep their order too, by when they are to be tried again.
        return sorted(self.urls, key=lambda url: max(0.0, self._avoided_until.get(url, 0.0) - now))

    def worked(self, url: str) -> None:
        """It answered."""
        self._avoided_until.pop(url, None)

    def failed(self, url: str, seconds: float = 0.0) -> None:
        """It did not.

        Args:
            seconds: for which it asked not to be asked; 0 where it said nothing.
        """
        self._avoided_until[url] = self._clock() + (seconds or PAUSE_SECONDS)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port  # raises where it is no number
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise InvalidParameter(f"{shown(url)} is no address of a server; name one such as http://127.0.0.1:8000")
    return url.rstrip("/")
