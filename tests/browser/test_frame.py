"""The frame of the page: its header, views and policy."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.support.browser import WITH_BROWSER, visit
from tests.support.server import Server

pytestmark = WITH_BROWSER


def test_the_page_loads_from_the_service_alone(browser: Browser, server: Server) -> None:
    with visit(browser, server.url) as seen:
        expect(seen.page.get_by_role("heading", name="Transcribe")).to_be_visible()
        expect(seen.page).to_have_title("Files – Transcribe")
        preloaded = seen.page.evaluate(
            "[...document.querySelectorAll('link[rel=modulepreload]')].map((link) => link.href)"
        )
        loaded = seen.page.evaluate(
            "performance.getEntriesByType('resource').map(({ name }) => name)"
        )
        assert sorted(name for name in loaded if name.endswith(".js")) == sorted(preloaded)
        seen.check(server.url)
