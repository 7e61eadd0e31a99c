from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.support.browser import running_browser


@pytest.fixture(scope="session")
def player() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(player: Playwright) -> Iterator[Browser]:
    """One Chromium for all tests that need no microphone; each test opens a tab of its own."""
    with running_browser(player) as running:
        yield running
