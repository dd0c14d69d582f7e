"""Who may pass: decided by the head of a request, before its body is read and before anybody looks for a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from starlette.types import Scope as AsgiScope

from models.errors import Forbidden, GraftworkError, RateLimited
from service.api.metrics import UNKNOWN, Metrics
from service.api.telemetry import RECORD, RequestRecord
from service.auth.credential import credential
from service.auth.key import Scope
from service.auth.keyring import Keyring
from service.auth.origin import check_same_site

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


class Gate:
    """Lets requests pass, or refuses them.

    Args:
        keyring: which keys there are.
        metrics: what refusals are counted in.
        on_loopback: whether the server is bound to the loopback address.
    """

    def __init__(self, keyring: Keyring, metrics: Metrics, *, on_loopback: bool) -> None:
        self._keyring = keyring
        self._metrics = metrics
        self._on_loopback = on_loopback

    def admit(self, asgi_scope: AsgiScope, needed: Scope | None) -> None:
        """Returns where a request over HTTP may be answered.

        Args:
            asgi_scope: of the request.
            needed: what its key must allow; None asks for no key.

        Raises:
            CrossSite, UnsupportedMediaType: a page of another site may have sent it, and it would change the server.
            Unauthorized, Forbidden, RateLimited: as `admit_call`.
        """
        if needed is not None:
            self._admit(asgi_scope["headers"], asgi_scope[RECORD], needed, by_browser=needed is Scope.ADMIN)

    def admit_call(self, headers: Headers, record: RequestRecord, needed: Scope | None) -> None:
        """Returns where a call that no browser can make may be answered: gRPC is HTTP/2 from its first byte.

        Args:
            headers: of the call, with names in lower case.
            record: of the call; takes the key's id.
            needed: what its key must allow; None asks for no key.

        Raises:
            Unauthorized: it shows no key, or none that is known.
            Forbidden: its key allows other things.
            RateLimited: its key has asked too often.
        """
        if needed is not None:
            self._admit(headers, record, needed, by_browser=False)

    def _admit(self, headers: Headers, record: RequestRecord, needed: Scope, *, by_browser: bool) -> None:
        try:
            if by_browser:
                check_same_site(headers, on_loopback=self._on_loopback)
            if self._keyring.is_closed:
                self._check_key(headers, needed, record)
        except GraftworkError as error:
            self._metrics.refusals.labels(error.code, record.key or UNKNOWN).inc()
            raise

    def _check_key(self, headers: Headers, needed: Scope, record: RequestRecord) -> None:
        key = self._keyring.find(credential(headers))
        record.key = key.id
        if needed not in key.scopes:
            raise Forbidden(f"this key does not allow '{needed}'; make one that does: graftwork keys create")
        seconds = 0.0 if key.limit is None else key.limit.take()
        if seconds > 0:
            raise RateLimited("this key has asked too often; ask again later", retry_after_seconds=math.ceil(seconds))
