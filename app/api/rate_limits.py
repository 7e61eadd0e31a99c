"""Rate limits over HTTP: which client to count, and the RateLimit headers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import Request
from starlette.types import Scope

from app.access.rate_limits import Account, Usage
from app.api.request_state import client_name, on_answer


async def admit(request: Request, account: Account) -> None:
    """Count a request. Its answer gets the headers, even if it is refused.

    Raises:
        RateLimited: too many requests, or no audio is left.
    """
    on_answer(request, lambda: rate_limit_headers(account.usage))
    await asyncio.to_thread(account.admit)


def rate_limit_headers(usage: Sequence[Usage]) -> dict[str, str]:
    """Headers for the limit with the smallest share left; the policy lists all limits.

    Source: draft-ietf-httpapi-ratelimit-headers, version 6, with the policy of version 8.
    """
    if not usage:
        return {}
    scarce = min(usage, key=lambda one: one.remaining / one.limit)
    return {
        "RateLimit-Limit": str(scarce.limit),
        "RateLimit-Remaining": str(scarce.remaining),
        "RateLimit-Reset": str(scarce.wait_s(min(scarce.remaining + 1, scarce.limit))),
        "RateLimit-Policy": ", ".join(
            f'"{one.name}";q={one.limit};w={one.window_s:g}' for one in usage
        ),
    }


def account_of(scope: Scope) -> str:
    """Which client to count: by its key, else its address."""
    name = client_name(scope)
    return f"key {name}" if name else address_of(scope)


def address_of(scope: Scope) -> str:
    """Where a request comes from: a whole /64 network if that is IPv6."""
    return account_of_address((scope.get("client") or ("local",))[0])


def account_of_address(host: str) -> str:
    """As `address_of`, for a client that does not come over HTTP."""
    try:
        address = ip_address(host)
    except ValueError:
        return f"address {host[:100]}"
    if isinstance(address, IPv6Address):
        return f"address {address.ipv4_mapped or ip_network((address, 64), strict=False)}"
    return f"address {address}"
