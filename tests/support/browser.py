"""A real browser (Chromium) that plays a user of the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
WITH_BROWSER = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here")
# Root may not use the sandbox, and what these tests open is ours.
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
PATIENCE_MS = 60_000  # of a loaded machine
expect.set_options(timeout=PATIENCE_MS)
AXE = Path(__file__).parent / "vendor" / "axe.min.js"


@contextmanager
def running_browser(player: Playwright, microphone: Path | None = None) -> Iterator[Browser]:
    """`microphone`: a WAV file that is what the microphone hears, once."""
    arguments = [*ARGUMENTS]
    if microphone is not None:
        arguments += [
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone}%noloop",
        ]
    browser = player.chromium.launch(executable_path=PROGRAM, args=arguments)
    try:
        yield browser
    finally:
        browser.close()


@dataclass
class Visit:
    """A user's tab, and what went wrong in it. `page`: with bypassed policy for the test's own
    scripts; violations are still told by the browser's console.
    """

    context: BrowserContext
    page: Page
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def check(self, url: str, expected: Sequence[str] = ()) -> None:
        """No request to another host, no error in the console except `expected` parts of some."""
        assert self.hosts <= {urlsplit(url).netloc}, self.hosts
        unexpected = [
            text for text in self.complaints if not any(part in text for part in expected)
        ]
        assert unexpected == []


@contextmanager
def visit(browser: Browser, url: str, fragment: str = "", **context: Any) -> Iterator[Visit]:
    """A new user's tab at this address of the page."""
    opened = browser.new_context(**context)
    opened.set_default_timeout(PATIENCE_MS)
    try:
        seen = Visit(opened, opened.new_page())
        seen.page.on("request", lambda request: _note_host(seen, request.url))
        seen.page.on("console", lambda message: _note_console(seen, message.type, message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.goto(f"{url}/{fragment}")
        yield seen
    finally:
        opened.close()


def _note_host(seen: Visit, url: str) -> None:
    if url.startswith(("http", "ws")):
        seen.hosts.add(urlsplit(url).netloc)


def _note_console(seen: Visit, kind: str, text: str) -> None:
    if kind == "error":
        seen.complaints.append(text)


def violations(page: Page) -> list[str]:
    """What axe finds wrong for people who use a keyboard, a screen reader or need contrast."""
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run().then(({ violations }) => violations)")
    return [f"{v['id']}: {', '.join(n['html'] for n in v['nodes'])}" for v in found]
