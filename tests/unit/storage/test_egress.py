from __future__ import annotations

import pytest

from app.domain.errors import UnsupportedOption
from app.storage.egress import EgressRules

PUBLIC = ("1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:1.1.1.1")
PRIVATE = (
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001:0:53aa:64c::",
    "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "ff0e::1",
    "2001:db8::1", "3fff::1", "5f00::1",
)  # fmt: skip
NAMES = ("localhost", "example.com", "0x7f000001", "2130706433", "127.1", "", "1.1.1.1.")


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert EgressRules().permits(address)


@pytest.mark.parametrize("address", [*PRIVATE, *NAMES])
def test_all_else_is_refused(address: str) -> None:
    """Also names: what they lead to can change after this."""
    assert not EgressRules().permits(address)


def test_allowed_networks_are_permitted_in_any_form() -> None:
    rules = EgressRules(["10.1.0.0/16", "fd00:1::/32"])
    assert rules.permits("10.1.2.3")
    assert rules.permits("::ffff:10.1.2.3")
    assert rules.permits("fd00:1::5")
    assert not rules.permits("10.2.0.1")
    assert not rules.permits("::ffff:10.2.0.1")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.com/a", "//example.com/a", "example.com/a", "", "http://",
        "http:///a", "https://exa mple.com/", "http://example.com\\@127.0.0.1/", "http://[::1",
        "http://example.com:port/", "javascript:alert(1)", "data:audio/wav;base64,AAAA",
        "http://example.com/\r\nX: y", "https://example.com/" + "a" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UnsupportedOption, match=r"^url: not a URL that begins with https://"):
        EgressRules().check_url(url, "url")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "LOCALHOST", "localhost.", "a.localhost", "169.254.169.254",
        "0x7f000001", "0x7f.1", "2130706433", "017700000001", "0177.0.0.1", "127.1", "127.0.0.1.",
        "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "0", "10.0.0.1",
        "user:password@127.0.0.1",
    ],
)  # fmt: skip
def test_private_addresses_in_any_form_are_refused_at_once(host: str) -> None:
    with pytest.raises(UnsupportedOption, match=r"^callback_url: this address is not public\.$"):
        EgressRules().check_url(f"http://{host}:8080/a", "callback_url")


def test_a_good_url_is_given_back() -> None:
    assert EgressRules().check_url(" https://example.com:8443/a?b=c ", "url") == (
        "https://example.com:8443/a?b=c"
    )
    assert EgressRules(["127.0.0.2/32"]).check_url("http://127.0.0.2/a", "url")
