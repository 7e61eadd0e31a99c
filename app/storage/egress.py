"""Which addresses the service may connect to on behalf of a client: public ones.

The rules look at the address of a connection, never at a name: what a name leads to can change
between two look-ups. Sources: the IANA registries of special-purpose IPv4 and IPv6 addresses;
RFC 4291 (mapped addresses), 6052 (NAT64), 3056 (6to4), 4380 (Teredo, within 2001::/23).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import urlsplit

from app.domain.errors import UnsupportedOption

Address = IPv4Address | IPv6Address

MAX_URL_CHARS = 4096
GLOBAL_IPV6 = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
# Not for everybody, whatever Python's version thinks of them. The last one is Azure's metadata.
SPECIAL = tuple(
    IPv4Network(network)
    for network in ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "168.63.129.16/32")
)
SPECIAL_IPV6 = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "3fff::/20")
)


class EgressRules:
    """Whether an address may be connected to. `allowed`: networks that may be although private."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.allowed = tuple(allowed)
        self._networks = tuple(ip_network(network) for network in self.allowed)

    def permits(self, host: str) -> bool:
        """Whether a connection to this address is allowed. A name never is."""
        try:
            address = ip_address(host)
        except ValueError:
            return False
        forms = (address, *_embedded(address))
        if any(self._allows(form) for form in forms):
            return True
        return all(_is_public(form) for form in forms) and not _is_our_own(address)

    def _allows(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def check_url(self, url: str, parameter: str) -> str:
        """The URL of a client, stripped, if it may be tried. What its name leads to is checked when
        it is connected to.

        Raises:
            UnsupportedOption: not a URL of http or https, or one of a refused address.
        """
        url = url.strip()
        host = _host_of(url)
        if host is None:
            raise UnsupportedOption(f"{parameter}: not a URL that begins with https:// or http://.")
        literal = _literal(host)
        if literal is not None and not self.permits(literal):
            raise UnsupportedOption(f"{parameter}: this address is not public.")
        return url


def _host_of(url: str) -> str | None:
    """The host of a URL; None if it is no valid URL."""
    if len(url) > MAX_URL_CHARS or any(char <= " " or char == "\x7f" for char in url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no number
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or "\\" in parts.netloc:
        return None
    return parts.hostname or None


def _literal(host: str) -> str | None:
    """The address that a host is written as, in any of the forms that libraries read."""
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return "127.0.0.1"
    with suppress(OSError, UnicodeError):
        return socket.inet_ntoa(socket.inet_aton(name))  # also 0x7f000001, 2130706433, 0177.1
    with suppress(ValueError):
        return str(ip_address(name))
    return None


def _embedded(address: Address) -> Iterator[Address]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address in NAT64:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return (
            address.is_global
            and not address.is_multicast
            and not any(address in network for network in SPECIAL)
        )
    if next(_embedded(address), None):
        return True  # if the address that it stands for is, too
    return (
        address in GLOBAL_IPV6
        and address.is_global
        and not any(address in network for network in SPECIAL_IPV6)
    )


def _is_our_own(address: Address) -> bool:
    """Whether it is a public address of this machine: services that listen there may trust it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))  # sends nothing; the kernel chooses our side
        ours: str = probe.getsockname()[0]
        return ip_address(ours.partition("%")[0]) == address
    return False
