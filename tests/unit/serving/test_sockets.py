"""The sockets that the service listens on."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from app.config.settings import load_settings
from app.domain.errors import ConfigurationError
from app.serving.sockets import open_sockets


def test_addresses_that_cannot_be_had() -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(ConfigurationError, match=f"cannot listen on {host}:9000"):
            open_sockets(load_settings({"host": host, "port": 9000}))


def test_clients_that_vanish_are_noticed() -> None:
    """Accepted connections inherit what the listening socket asks of the kernel."""
    settings = load_settings({"host": "127.0.0.1", "port": 1, "connection_timeout_s": 7})
    try:
        [sock] = open_sockets(settings)
    except ConfigurationError:
        pytest.skip("port 1 is not to be had here")
    with closing(sock):
        sock.listen()
        with closing(socket.create_connection(sock.getsockname())), closing(sock.accept()[0]) as c:
            assert c.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert c.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
            assert c.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 300
