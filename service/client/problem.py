"""What went wrong, as an error of ours."""

from __future__ import annotations

import json

from models.errors import (
    DeadlineExceeded,
    GraftworkError,
    NotReady,
    RateLimited,
    Unauthorized,
    Unavailable,
    from_code,
)
from service.client.call import Failure, Outcome, Reply
from service.client.retry_after import retry_after_seconds

_OF_PROXIES: dict[int, type[GraftworkError]] = {502: NotReady, 503: NotReady, 504: DeadlineExceeded}


def error_of(outcome: Outcome, url: str, seconds: float, *, with_key: bool) -> GraftworkError:
    """The error for an answer that is none, or for no answer.

    Args:
        url: of the server that was asked.
        seconds: after which it was given up.
        with_key: whether a key was shown.
    """
    if isinstance(outcome, Failure):
        return _error_of_failure(outcome, url, seconds)
    if outcome.status == Unauthorized.status:
        what = "does not know this key" if with_key else "asks for a key"
        return Unauthorized(f"{url} {what}; give one that it knows: --api-key KEY or GRAFTWORK_API_KEY")
    error = _error_in(outcome)
    if error is None:
        return unlike_ours(outcome, url)
    if isinstance(error, (Unavailable, RateLimited)):
        error.retry_after_seconds = max(1, round(retry_after_seconds(outcome.headers)))
    return error


def unlike_ours(reply: Reply, url: str) -> GraftworkError:
    """Something else than a service of ours has answered, such as a proxy before one."""
    kind = _OF_PROXIES.get(reply.status, GraftworkError)
    return kind(f"{url} answered {reply.status}, but not as a Graftwork server does")


def _error_of_failure(failure: Failure, url: str, seconds: float) -> GraftworkError:
    match failure.kind:
        case "timed out":
            return DeadlineExceeded(f"{url} did not answer within {seconds:.3g} s")
        case "broken off":
            return NotReady(f"{url} broke off in the middle of its answer; try again")
        case "unreachable":
            # Over TLS, a server that is there may be one that cannot be trusted.
            why = f" ({failure.reason})" if url.startswith("https:") and failure.reason else ""
            return NotReady(f"there is no server at {url}{why}; start one: graftwork serve")


def _error_in(reply: Reply) -> GraftworkError | None:
    """The error in RFC 9457's form, which is ours, or in OpenAI's."""
    try:
        document = json.loads(reply.body)
        if "error" in document:
            return from_code(document["error"]["code"], document["error"]["message"])
        return from_code(document["code"], document["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
