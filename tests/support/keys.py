"""Keys that the tests use, and how a client sends them."""

from __future__ import annotations

from typing import Any

import httpx

from app.config.settings import Settings, load_settings

ALICE = "8f14e45fceea167a5a36dedd4bea2543"
ALICE_NEW = "c9f0f895fb98ab9159f51fd0297e236d"
NAMELESS = "45c48cce2e2d7fbdea1afc51c7c6ad26"
BOB = "d3d9446802a44259755d38e6d163e820"
SECRETS = (ALICE, ALICE_NEW, NAMELESS, BOB)
PAGE = "https://notes.example.com"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def assert_secure(response: httpx.Response) -> None:
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert "strict-transport-security" not in response.headers


def settings_of(**values: Any) -> Settings:
    return load_settings(values)
