"""Live captions, recordings and the queue, with a microphone that hears a known recording."""

from __future__ import annotations

import re
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from app.domain.languages import LANGUAGES
from tests.support.browser import WITH_BROWSER, running_browser, violations, visit
from tests.support.media import speech
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.server import Server, running_server
from tests.support.streams import status, stream
from tests.support.truth import normalize, truth_of, word_error_rate

pytestmark = WITH_BROWSER
SAID = [w["word"] for w in truth_of("en_mono")["words"]]
END = re.compile(r"\W+".join(SAID[-4:]).replace(".", ""), re.I)
NO_MORE_SOUND = """() => {
  navigator.mediaDevices.getUserMedia = async () => { throw Error(); };
}"""
QUIET = np.zeros(16_000, np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("page"), ALLOWED_MODELS="demo") as running:
        yield running


@pytest.fixture(scope="module")
def speaking(player: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose microphone hears a known speech, from the start of its use."""
    sound = tmp_path_factory.mktemp("microphone") / "speech.wav"
    samples = np.concatenate([speech("en_mono"), *[QUIET] * 600])
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((samples * 32_767).astype("<i2").tobytes())
    with running_browser(player, sound) as running:
        yield running


def captions(page: Page) -> str:
    return " ".join(page.locator(".caption > span:not(.time)").all_inner_texts())


def test_live_captions(speaking: Browser, server: Server) -> None:
    with visit(speaking, server.url, "#/live", permissions=["microphone"], bypass_csp=True) as seen:
        seen.page.get_by_text("Options", exact=True).click()
        seen.page.get_by_label("Language").select_option("en")
        seen.page.get_by_role("button", name="Start").click()
        expect(seen.page.locator(".tentative").first).to_be_attached()
        expect(seen.page.get_by_role("log")).to_contain_text(END)
        seen.page.get_by_role("button", name="Stop").click()
        expect(seen.page.get_by_role("button", name="Start anew")).to_be_enabled()
        said = captions(seen.page)
        assert word_error_rate(SAID, said) <= 0.1
        anew = seen.page.get_by_role("button", name="Start anew", exact=True)
        asked = seen.page.get_by_role("dialog", name="Start anew?")
        anew.click()
        asked.get_by_role("button", name="Keep it").click()
        seen.page.evaluate(NO_MORE_SOUND)
        anew.click()
        assert violations(seen.page) == []
        asked.get_by_role("button", name="Start anew without it").click()
        expect(seen.page.locator(".notice.bad")).to_contain_text("microphone")
        assert captions(seen.page) == said
        seen.check(server.url)


def test_a_lost_connection_loses_no_word(speaking: Browser, tmp_path: Path) -> None:
    port = free_port()
    with (
        running_server(tmp_path / "first", port=port, ALLOWED_MODELS="demo") as first,
        visit(speaking, first.url, "#/live", permissions=["microphone"]) as seen,
    ):
        page = seen.page
        page.get_by_role("button", name="Start").click()
        expect(page.locator(".caption > span:not(.time)").first).not_to_be_empty()
        first.process.kill()
        expect(page.get_by_text("What you say is kept")).to_be_visible()
        with running_server(tmp_path / "second", port=port, ALLOWED_MODELS="demo"):
            expect(page.get_by_role("log")).to_contain_text(END)
            page.get_by_role("button", name="Stop").click()
            expect(page.get_by_role("button", name="Start anew")).to_be_enabled()
            assert word_error_rate(SAID, captions(page)) <= 0.1


def test_a_recording_outlives_a_reload_and_is_transcribed(
    speaking: Browser, server: Server
) -> None:
    with visit(speaking, server.url, "#/record", permissions=["microphone"]) as seen:
        page = seen.page
        page.get_by_role("button", name="Start recording").click()
        expect(page.get_by_label("Recorded time")).to_have_text(re.compile("0:0[6-9]|0:1"))
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_text("Paused.")).to_be_visible()
        page.get_by_role("button", name="Resume").click()
        page.on("dialog", lambda dialog: dialog.accept())  # it warns, since it records
        page.reload()
        kept = page.get_by_role("listitem").filter(has_text="Recording 2")
        expect(kept).to_be_visible()
        kept.get_by_role("button", name="Transcribe").click()
        kept.get_by_role("link", name="Open the transcript").wait_for()
        job = kept.get_by_role("link").get_attribute("href").rsplit("/", 1)[1]
        result = server.get(f"/result/{job}").json()
        heard = normalize(result["full_text"])
        assert len(heard) >= 8
        assert word_error_rate(normalize(" ".join(SAID))[: len(heard)], heard) <= 0.25
        page.reload()  # only what is not transcribed is kept
        expect(page.get_by_role("button", name="Start recording")).to_be_visible()
        expect(kept).to_have_count(0)
        seen.check(server.url)


def test_a_recording_stays_if_the_service_cannot_take_it(speaking: Browser, server: Server) -> None:
    with visit(speaking, server.url, "#/record", permissions=["microphone"]) as seen:
        page = seen.page
        page.get_by_role("button", name="Start recording").click()
        expect(page.get_by_label("Recorded time")).to_have_text(re.compile("0:0[3-9]"))
        page.context.set_offline(True)
        page.get_by_role("button", name="Stop and transcribe").click()
        expect(page.get_by_role("alert")).to_contain_text("The recording is still here.")
        page.context.set_offline(False)
        page.get_by_role("button", name="Try again").click()
        page.get_by_role("link", name="Open the transcript").wait_for()


def test_without_a_microphone_the_page_says_why(browser: Browser, server: Server) -> None:
    with visit(browser, server.url, "#/live") as seen:
        seen.page.get_by_role("button", name="Start").click()
        expect(seen.page.locator(".notice.bad")).to_contain_text("microphone")
        seen.page.goto(f"{server.url}/#/record")
        seen.page.get_by_role("button", name="Start recording").click()
        expect(seen.page.locator(".messages")).to_contain_text("microphone")
        seen.check(server.url)


def test_the_queue_shows_a_stream_that_can_be_cancelled(browser: Browser, server: Server) -> None:
    with (
        stream(server, language="en") as client,
        visit(browser, server.url, "#/queue") as seen,
    ):
        client.wait(status("connected"))
        entry = seen.page.get_by_role("listitem").filter(has_text="Live stream")
        expect(entry).to_contain_text("demo")
        entry.get_by_role("button", name="Cancel").click()
        assert client.closed() == 1001
        expect(seen.page.get_by_text("The service waits for work.")).to_be_visible()
        seen.check(server.url)


def test_a_stream_with_a_wrong_key_asks_for_another(speaking: Browser, tmp_path: Path) -> None:
    key = 'open/sesame=(12):%2F"@'
    with (
        running_server(tmp_path, API_KEYS=f"ann:{key}") as locked,
        visit(speaking, locked.url, "#/live", permissions=["microphone"]) as seen,
    ):
        page = seen.page
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_text("Listening", exact=False)).to_be_visible()


@pytest.mark.parametrize("view", ["live", "record", "queue"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(browser: Browser, server: Server, view: str, scheme: str) -> None:
    with visit(
        browser,
        server.url,
        f"#/{view}",
        color_scheme=scheme,
        viewport={"width": 360, "height": 740},
        bypass_csp=True,
    ) as seen:
        seen.page.get_by_role("heading", level=2).first.wait_for()
        assert violations(seen.page) == []
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_page_knows_the_languages_of_the_service() -> None:
    source = (ROOT / "app/web/js/parts/languages.js").read_text()
    assert source.split("`")[1].split() == list(LANGUAGES)
