"""The frame of the page: its header, views and policy."""

from __future__ import annotations

from playwright.sync_api import Browser, Route, expect

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


def test_something_is_painted_before_the_scripts_are_there(
    browser: Browser, server: Server
) -> None:
    held: list[Route] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/*.js", lambda route: held.append(route))
        page.goto(server.url, wait_until="commit")
        heading = page.get_by_role("heading", name="Transcribe")
        expect(heading).to_be_visible()
        expect(page.get_by_role("navigation")).to_have_count(0)
        assert held
        page.unroute("**/*.js")  # and lets them go
        expect(page.get_by_role("navigation")).to_be_visible()
        expect(heading).to_have_count(1)  # the same one, or in its place
