"""Bytes become requests, strictly and within limits.

httptools refuses most of what two servers could read in two ways (RFC 9112, 11.2: request smuggling). What it lets through
and what it does not bound is refused here.
"""

from __future__ import annotations

import asyncio
import logging
import re
from abc import abstractmethod
from enum import Enum
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from models.errors import BadRequest, BodyTooLarge, GraftworkError, HeadersTooLarge, UrlTooLong
from service.http.limits import ConnectionLimits
from service.http.sweep import Sweep

logger = logging.getLogger(__name__)

_ONCE = frozenset((b"host", b"content-length", b"transfer-encoding"))  # they decide where a request ends, and for whom
_HOST = re.compile(rb"([A-Za-z0-9._~%-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{0,5})?")
_UNKNOWN_METHOD = re.compile(rb"([A-Z]{1,32}) (/[!-~]{0,8191}) HTTP/1\.[01]\r\n")
_FRAME_BYTES = 16  # of a chunk: its size in hexadecimal digits, and two line ends


class Reading(Enum):
    """Which part of a request comes next."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


NOTHING, HEAD, BODY = Reading


class RequestReader(HttpToolsProtocol):
    """The half of a client connection that reads.

    Args:
        limits: of sizes.
        sweep: the clock.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        sweep: Sweep,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._sweep = sweep
        self._since = sweep.now  # when it began to wait for what it waits for
        self._reading = NOTHING
        self._deaf = False  # what still comes is thrown away
        self._discarded_bytes = 0
        # Of the request that is being read:
        self._once: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._body_bytes = 0
        self._chunks = 0
        self._wire_bytes = 0  # received since its head or its body began, as far as they are of no other request

    @abstractmethod
    def _begin(self, *, keep_alive: bool) -> None:
        """The head of a request is complete: has the application answer it, after those before it."""

    @abstractmethod
    def _refuse(self, error: GraftworkError) -> None:
        """Has the request that is being read, or was about to be, answered with an error, after those before it."""

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._discard(len(data))
            return
        reading, scope, cycle = self._reading, self.scope, self.cycle
        rest: bytes | None = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            rest = data[offer.args[0] :]
        except httptools.HttpParserError as error:
            is_first = reading is NOTHING and self.cycle is cycle
            self._refuse_what_is_wrong(error, _UNKNOWN_METHOD.match(data) if is_first else None)
            return
        if rest is not None:
            self._decline_upgrade(rest)
        elif self._reading is HEAD:
            if self.cycle is cycle and reading is not BODY:
                self._check_unfinished_head(len(data))
        elif self._reading is BODY and reading is BODY and self.scope is scope:
            self._check_framing_of_body(len(data))

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > self._limits.max_linger_bytes:
            self.transport.abort()

    # The head

    def on_message_begin(self) -> None:
        if self.cycle is not None:  # the time for the first head runs from the start of the connection
            self._since = self._sweep.now
        self._reading = HEAD
        self._head_bytes = self._wire_bytes = 0
        self._once = {}
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self._limits.max_url_bytes:
            raise UrlTooLong(f"the URL has more than {self._limits.max_url_bytes:,} bytes; send long input in the body")

    def on_header(self, name: bytes, value: bytes) -> None:
        headers, limits = self.headers, self._limits
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > limits.max_header_bytes or len(headers) >= limits.max_headers:
            raise self._headers_too_large()
        if self._reading is BODY:  # a trailer: it must not pass for a header
            return
        name, value = name.lower(), value.rstrip(b" \t")
        if name in _ONCE:
            if name in self._once:
                raise BadRequest(f"there is more than one {name.decode()} header; send one")
            self._once[name] = value
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        headers.append((name, value))

    def _check_unfinished_head(self, size: int) -> None:
        """The parser tells of a header field only when it has ended."""
        self._wire_bytes += size
        if self._wire_bytes > self._limits.max_header_bytes + self._limits.max_url_bytes:
            self._refuse(self._headers_too_large())

    def _headers_too_large(self) -> HeadersTooLarge:
        most, most_bytes = self._limits.max_headers, self._limits.max_header_bytes
        return HeadersTooLarge(f"the headers are too large; send at most {most}, and {most_bytes:,} bytes in all")

    def on_headers_complete(self) -> None:
        parser = self.parser
        method, version = parser.get_method(), parser.get_http_version()
        if parser.should_upgrade() and method != b"CONNECT":
            return  # see _decline_upgrade
        self._check_head(version)
        if version != "1.1":
            self.scope["http_version"] = version
            self.expect_100_continue = False  # older clients know no answer before the answer (RFC 9110, 10.1.1)
        self._set_target(method)
        self._reading = BODY
        self._body_bytes = self._wire_bytes = self._chunks = 0
        self._begin(keep_alive=version == "1.1" and method != b"CONNECT" and parser.should_keep_alive())

    def _check_head(self, version: str) -> None:
        """Refuses what another server on the way might read differently (RFC 9112, 3.2, 6.1 and 6.3)."""
        once = self._once
        if version not in ("1.1", "1.0"):
            raise BadRequest("this server speaks HTTP/1.1")
        if not _HOST.fullmatch(once.get(b"host", b"" if version == "1.1" else b"-")):
            raise BadRequest("the Host header is missing, or no host name with or without a port")
        if (length := once.get(b"content-length", b"0")) != b"0" and length.startswith(b"0"):
            raise BadRequest("Content-Length must be written without leading zeros")  # which mean octal to some
        if b"transfer-encoding" in once and (
            version == "1.0" or b"content-length" in once or once[b"transfer-encoding"].lower() != b"chunked"
        ):
            raise BadRequest("Transfer-Encoding may only be chunked, without Content-Length, in HTTP/1.1")
        if len(self.pipeline) >= self._limits.max_pipelined_requests:
            raise BadRequest("there are too many requests ahead of their answers; wait for answers")

    def _set_target(self, method: bytes) -> None:
        target = httptools.parse_url(self.url)
        raw_path = target.path or b"/"
        path = raw_path.decode("ascii")
        self.scope["method"] = method.decode("ascii")
        self.scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        self.scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        self.scope["query_string"] = target.query or b""

    def _decline_upgrade(self, rest: bytes) -> None:
        """Reads a request that offers another protocol as if it did not (RFC 9110, 7.8), once more from its head on.

        The parser takes what follows the head for the other protocol. The body of Java's client, which offers h2c with
        each first request, would be lost, or read as the next request.
        """
        if self._reading is not HEAD:  # CONNECT, which is being answered: what follows is no HTTP
            self._deaf = True
            return
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._reading = NOTHING
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    # The body

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > self._limits.max_chunks:
            raise BodyTooLarge(f"the body has more than {self._limits.max_chunks:,} chunks; send larger ones")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        cycle = self.cycle
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _check_framing_of_body(self, size: int) -> None:
        """The parser skips the extensions of chunks, and keeps an unfinished trailer, however long they are."""
        self._wire_bytes += size
        if self._wire_bytes - self._body_bytes - self._chunks * _FRAME_BYTES > self._limits.max_header_bytes:
            self._refuse(BadRequest("there is too much around the chunks of the body; send no chunk extensions"))

    def on_message_complete(self) -> None:
        if self._reading is BODY:  # it is HEAD where an upgrade is declined
            self._reading = NOTHING
            self.cycle.more_body = False
            self.cycle.message_event.set()

    # What is wrong

    def _refuse_what_is_wrong(self, error: httptools.HttpParserError, unknown_method: re.Match[bytes] | None) -> None:
        """Refuses a request that could not be read.

        Args:
            error: the parser's, or what one of the methods above raised, wrapped by it.
            unknown_method: the request line, if nothing comes before it and it is whole.
        """
        cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
        if isinstance(cause, GraftworkError):
            self._refuse(cause.with_traceback(None))  # which leads to the scope, where the error is kept
        elif isinstance(cause, httptools.HttpParserInvalidMethodError) and unknown_method:
            self._deaf = True  # the parser does not read on, but the application knows what the route allows instead
            method, self.url = unknown_method.groups()
            self._set_target(method)
            self._begin(keep_alive=False)
        elif isinstance(cause, (httptools.HttpParserError, ValueError)):
            self._refuse(BadRequest("this is no HTTP/1.1 request as it must be written"))
        else:
            logger.error("a request could not be read", exc_info=cause)
            self._refuse(GraftworkError("the server failed on this request; its log has more"))
