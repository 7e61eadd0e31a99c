from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.support.browser import running_browser


@pytest.fixture(scope="module")
def player() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(player: Playwright) -> Iterator[Browser]:
    """One Chromium for the tests of a module; each opens a tab of its own.

    Not for longer: while Playwright runs, an event loop does in this thread, which others mind.
    """
    with running_browser(player) as running:
        yield running
