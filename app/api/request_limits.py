"""Rate limits of each API key, or of each address where there are no keys."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import FastAPI
from starlette.requests import HTTPConnection
from starlette.types import Scope

from app.access.rate_limits import RateLimits
from app.api.request_state import client_name
from app.config.rate_limits import RateLimitSettings
from app.engine.work import Work
from app.service.admission import Charge, free


def install(app: FastAPI, settings: RateLimitSettings) -> None:
    """Make the limits ready for `admit`.

    Raises:
        ConfigurationError: a storage that cannot be.
    """
    app.state.rate_limits = RateLimits(
        settings.rate_limit_requests_per_minute,
        round(settings.rate_limit_audio_minutes_per_hour * 60),
        settings.rate_limit_storage_url.get_secret_value(),
    )


async def admit(request: HTTPConnection, work: Work) -> Charge:
    """What charges the audio of a request, which itself is counted now.

    Raises:
        RateLimited: this client has had its share for now.
    """
    rate_limits: RateLimits = request.app.state.rate_limits
    client = _client(request.scope)
    headers: dict[str, str] = request.scope["state"].setdefault("answer_headers", {})
    await rate_limits.admit(client, headers)
    if not rate_limits.count_audio:
        return free
    loop = asyncio.get_running_loop()

    def charge(audio_s: float) -> None:  # in a thread of the request's
        charging = rate_limits.charge(client, audio_s, headers)
        work.wait(work.track(asyncio.run_coroutine_threadsafe(charging, loop)))

    return charge


def _client(scope: Scope) -> str:
    """Who is counted. An IPv6 client has a whole network of addresses to choose from."""
    if name := client_name(scope):
        return f"key {name}"
    host: str = (scope.get("client") or ("local",))[0]
    try:
        address = ip_address(host)
    except ValueError:
        return f"address {host[:100]}"
    if isinstance(address, IPv6Address):
        return f"address {address.ipv4_mapped or ip_network((address, 64), strict=False)}"
    return f"address {address}"


# -- counting ------------------------------------------------------------------------------------
