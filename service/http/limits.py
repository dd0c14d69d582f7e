"""What one client connection may cost, and how many connections there may be."""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace

RESERVED_FILES = 128  # for what is no client: sockets of workers, the log, the repository, clients that are told to go


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """The limits of `service.http.connection`.

    Attributes:
        max_connections: more get 503 and are closed.
        max_url_bytes: of the request target; a longer one gets 414.
        max_header_bytes: of all header fields of a request; more get 431.
        max_headers: header fields of a request; more get 431.
        max_chunks: of one chunked body; more get 413.
        max_pipelined_requests: sent ahead of their answers; more get 400.
        header_timeout_seconds: until the head of a request is complete, from its first byte, or from the connection's start
            for its first request; then 408, or nothing where the client never sent a byte.
        body_timeout_seconds: until its body is complete; then 408.
        body_bytes_per_second: how fast a body must come on average, after ``body_grace_seconds``; slower ones get 408.
        keep_alive_seconds: without a request, until a connection is closed. Longer than load balancers keep theirs
            (60 s is common), so that it is never the server that closes one which is about to be used.
        write_timeout_seconds: without progress, until a client that does not read its answer is cut off.
        linger_seconds: how long, and how many bytes, a client may go on to send after it was answered early.
        max_linger_bytes: see ``linger_seconds``.
        sweep_seconds: how often connections are looked at: the precision of all times above.
    """

    max_connections: int = 1024
    max_url_bytes: int = 8 << 10
    max_header_bytes: int = 32 << 10
    max_headers: int = 100
    max_chunks: int = 65_536
    max_pipelined_requests: int = 256
    header_timeout_seconds: float = 10.0
    body_timeout_seconds: float = 30.0
    body_bytes_per_second: int = 1 << 10
    body_grace_seconds: float = 5.0
    keep_alive_seconds: float = 75.0
    write_timeout_seconds: float = 10.0
    linger_seconds: float = 2.0
    max_linger_bytes: int = 64 << 20
    sweep_seconds: float = 0.5


def fit_to_open_files(limits: ConnectionLimits, *, others: int = 0) -> ConnectionLimits:
    """The same limits, with no more connections than this process may have open files.

    Args:
        others: connections that there may be beside them.

    Its soft limit is raised first, as far as these connections need it and the hard limit allows; no further, because
    some programs walk through all numbers up to it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    reserved = RESERVED_FILES + others
    wanted = limits.max_connections + reserved
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return replace(limits, max_connections=max(1, min(limits.max_connections, soft - reserved)))
