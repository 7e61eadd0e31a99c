"""The sockets that the service listens on."""

from __future__ import annotations

import resource
import socket
from collections.abc import Sequence

from app.config.server import ServerSettings
from app.domain.errors import ConfigurationError

BACKLOG = 2048
KEEPALIVE_AFTER_S = 300  # of silence, TCP probes whether the client is still there


def address_of(host: str, port: int) -> str:
    """Host and port as written in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_sockets(settings: ServerSettings) -> list[socket.socket]:
    """Bound sockets that do not listen yet, so that a port in use fails before models load.

    Raises:
        ConfigurationError: the address is invalid or in use.
    """
    host, port = settings.host, settings.port
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            _set_options(sock, settings.connection_timeout_s)
            sock.bind(address)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _cannot_listen(settings, error) from None
    return sockets


def listen(settings: ServerSettings, sockets: Sequence[socket.socket]) -> None:
    """Start to listen.

    Raises:
        ConfigurationError: another process listens on the address by now.
    """
    try:
        for sock in sockets:
            sock.listen(BACKLOG)
    except OSError as error:
        raise _cannot_listen(settings, error) from None


def _cannot_listen(settings: ServerSettings, error: OSError) -> ConfigurationError:
    address = address_of(settings.host, settings.port)
    return ConfigurationError(f"HOST, PORT: cannot listen on {address}: {error.strerror or error}.")


def _set_options(sock: socket.socket, timeout_s: float) -> None:
    """Options that connections inherit: they close connections whose client has vanished or stops
    reading its answer.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_AFTER_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))


def allow_files(num_files: int) -> None:
    """Raise the soft limit of open files. It is often 1024, and each connection needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num_files if hard == resource.RLIM_INFINITY else min(num_files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
