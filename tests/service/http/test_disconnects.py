"""Clients that go away."""

from __future__ import annotations

import hashlib
import socket
import struct

import pytest

from tests.processes import wait_for
from tests.service.wire import WireServer, get, is_echo, only, post, replies


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("ahead", [0, 5])
def test_a_handler_learns_once_that_its_client_is_gone(site: WireServer, how: str, ahead: int) -> None:
    site.gate.clear()
    hung_up, handled, logged = site.hung_up, site.handled, len(site.log)
    with site.connect() as connection:
        connection.sendall(get(b"/hold") * (1 + ahead))
        wait_for(lambda: site.handled == handled + 1, 5)
        assert site.hung_up == hung_up
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half-close":
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.close()
        wait_for(lambda: len(site.log) == logged + 1, 5)
    wait_for(lambda: site.connections() == 0, 5)
    assert site.hung_up == hung_up + 1
    assert site.handled == handled + 1  # the requests behind it were not even begun


def test_a_handler_that_asks_late_learns_it_too(site: WireServer) -> None:
    site.gate.clear()
    hung_up, handled = site.hung_up, site.handled
    with site.connect() as connection:
        connection.sendall(get(b"/hold?then=register"))
        wait_for(lambda: site.handled == handled + 1, 5)
    wait_for(lambda: site.hung_up == hung_up + 2, 5)


def test_a_handler_does_not_learn_what_does_not_concern_it(site: WireServer) -> None:
    """Its answer is complete, or it has taken its callback back."""
    site.gate.set()
    hung_up = site.hung_up
    with site.connect() as connection:
        for target in (b"/hold", b"/hold?then=clear"):
            connection.sendall(get(target))
            assert is_echo(only(replies(connection.recv(1 << 16))))
    site.gate.clear()
    handled = site.handled
    with site.connect() as connection:
        connection.sendall(get(b"/hold") + get(b"/hold"))
        wait_for(lambda: site.handled == handled + 1, 5)
        site.gate.set()
        connection.recv(1 << 16)
        wait_for(lambda: site.handled == handled + 2, 5)
        wait_for(lambda: site.log[-1]["status"] == 200, 5)
    wait_for(lambda: site.connections() == 0, 5)
    assert site.hung_up == hung_up


def test_h02_slow_bodies_are_counted_as_what_they_are(site: WireServer) -> None:
    """A body that ends with the connection is a client that hung up, not an error of its own."""
    handled, before = site.handled, site.outcomes().get("disconnected", 0)
    with site.connect() as connection:
        connection.sendall(post(b"/echo", b"abc", length=1000))
        wait_for(lambda: site.handled == handled + 1, 5)
    wait_for(lambda: site.outcomes().get("disconnected", 0) == before + 1, 5)
    assert hashlib.sha256(b"abc").hexdigest() not in site.bodies
