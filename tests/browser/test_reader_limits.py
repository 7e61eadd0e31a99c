"""The reader with what is hard: a phone, an hour, hostile text, a job that is not there (yet)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import WITH_BROWSER, violations, visit
from tests.support.reader import (
    MOST_TOUCHED,
    READ,
    WATCH,
    WATCH_SEGMENTS,
    done_job,
    downloaded,
    handed_in,
    made,
    reading,
    reading_made,
    rename,
    retype,
    segments,
)
from tests.support.server import Server

pytestmark = WITH_BROWSER
PHONE = {"width": 360, "height": 740}
HOUR_WORDS, WORDS_IN_SEGMENT = 12_000, 12


@pytest.fixture(scope="module")
def job(server: Server) -> str:
    return done_job(server)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_is_accessible_on_a_phone_and_in_both_themes(
    browser: Browser, server: Server, job: str, scheme: str
) -> None:
    # axe itself would break the policy
    context: dict[str, Any] = {"color_scheme": scheme, "viewport": PHONE, "bypass_csp": True}
    with reading(browser, server, job, **context) as seen:
        page = seen.page
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()

        def check() -> None:
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]

        page.locator(".word").nth(2).click()
        page.get_by_label("Underline unsure words").check()
        page.get_by_label("Search in the transcript").fill("the")
        expect(page.locator("[data-hit=current]")).to_be_visible()
        check()
        segments(page).nth(1).hover()
        segments(page).nth(1).get_by_label("Speaker and more").click()
        check()
        page.get_by_role("button", name="Edit the text, or split it").click()
        page.get_by_label("Text of the segment").fill(
            "Something else, and longer than one line is here."
        )
        check()
        page.keyboard.press("Enter")
        rename(page, "Speaker 1", "Speaker 2")  # the name is taken
        expect(page.get_by_role("alert")).to_be_visible()
        check()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Download").click()
        check()
        page.keyboard.press("Escape")
        page.get_by_label("Help: keys").click()
        check()


def test_an_hour_stays_fluent(browser: Browser, server: Server) -> None:
    """What is touched, not how long it takes: that depends on what else the machine does."""
    hour = [
        made(
            " ".join(f"word{n + k}" for k in range(WORDS_IN_SEGMENT)),
            n * 0.3,
            speaker=f"spk_{n // 60 % 3 + 1}",
        )
        for n in range(0, HOUR_WORDS, WORDS_IN_SEGMENT)
    ]
    with reading_made(browser, server, {"segments": hour, "duration": 3600.0}) as seen:
        page = seen.page
        expect(segments(page)).to_have_count(HOUR_WORDS // WORDS_IN_SEGMENT)
        assert page.locator(".word").count() == HOUR_WORDS
        skipped = page.evaluate(
            "[...document.querySelectorAll('.words')]"
            ".filter((n) => !n.checkVisibility({ contentVisibilityAuto: true })).length"
        )
        assert skipped > 900  # of a thousand: what is out of sight is not laid out
        page.evaluate(WATCH)
        page.get_by_label("Search in the transcript").fill("word11000")
        expect(page.locator("[data-hit=current]")).to_be_in_viewport()
        page.locator("[data-hit=current]").click()
        expect(page.locator("[data-lit]")).to_have_text("word11000")
        page.evaluate("seen.most = 0")
        page.locator(".word", has_text="word11002").click()
        expect(page.locator("[data-lit]")).to_have_text("word11002")
        assert page.evaluate("seen.most") <= MOST_TOUCHED
        page.evaluate(WATCH_SEGMENTS)
        number = 11_000 // WORDS_IN_SEGMENT
        retype(page, number, "Another text")
        expect(segments(page).nth(number)).to_contain_text("Another text")
        assert page.evaluate("[...touched]") == [str(number + 1)]


def test_a_correction_does_not_lead_back_to_what_was_found(
    browser: Browser, server: Server
) -> None:
    lines = [made(f"line {n} is here", n * 2.0) for n in range(100)]
    with reading_made(browser, server, {"segments": lines, "duration": 200.0}) as seen:
        page = seen.page
        field = page.get_by_label("Search in the transcript")
        field.fill("line 3 is")
        expect(page.get_by_text("1 of 1")).to_be_visible()
        segments(page).nth(99).scroll_into_view_if_needed()
        retype(page, 99, "Another text")
        expect(segments(page).nth(99)).to_contain_text("Another text")
        expect(segments(page).nth(99)).to_be_in_viewport()
        expect(segments(page).nth(3)).not_to_be_in_viewport()
        field.press("Enter")
        expect(segments(page).nth(3)).to_be_in_viewport()


HOSTILE = [
    "<script>window.hacked = 1</script> <img src=x onerror=window.hacked=1> &amp; ${1} {{1}}",
    "שלום, מה שלומך? كيف حالك",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u202egnirts\u202c \x00 \u2028 end",
    "x" * 10_000,
    " ".join(["line"] * 2_500),
    "javascript:alert(1) __proto__ constructor",
]


def test_hostile_text_is_text(browser: Browser, server: Server, tmp_path: Path) -> None:
    speakers = ["<b>Bold</b>", "__proto__", "n" * 900, "שרה", None, "constructor"]
    body = {
        "segments": [
            made(text, n * 10.0, speaker=speaker)
            for n, (text, speaker) in enumerate(zip(HOSTILE, speakers, strict=True))
        ],
        "file_name": '../<svg onload="hacked=1">/‮gpj.mp3',
        "warnings": ["<i>odd</i>"],
        "duration": 60.0,
    }
    with reading_made(browser, server, body, viewport=PHONE) as seen:
        page = seen.page
        shown = page.evaluate(READ)
        assert [s["words"] for s in shown] == [text.split() for text in HOSTILE]
        assert [s["speaker"] for s in shown] == [s or "No speaker" for s in speakers]
        assert page.locator(".words :not(.word), .who b, main svg[onload], .notice i").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        direction = "getComputedStyle(document.querySelectorAll('.words')[{}]).direction"
        assert [page.evaluate(direction.format(n)) for n in (0, 1)] == ["ltr", "rtl"]
        rename(page, "<b>Bold</b>", "<script>1</script>")
        retype(page, 5, "<img src=y onerror=window.hacked=1> \u202e")
        expect(segments(page).nth(5)).to_contain_text("<img src=y onerror=window.hacked=1>")
        page.get_by_label("Search in the transcript").fill("(<script>")
        expect(page.get_by_text("Not found")).to_be_visible()
        page.get_by_label("Search in the transcript").fill("<script>")
        expect(page.locator(".word[data-hit=current]")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        text = downloaded(page, "Text", tmp_path).read_text()
        assert text.startswith(f"[<script>1</script>]: {HOSTILE[0]}")
        assert page.evaluate("typeof window.hacked") == "undefined"


def test_a_job_that_is_not_there(browser: Browser, server: Server) -> None:
    with visit(browser, server.url, "#/job/00000000-0000-4000-8000-000000000000") as seen:
        expect(seen.page.get_by_role("alert")).to_contain_text("no job with this ID")
        seen.page.get_by_role("button", name="Try again").click()
        expect(seen.page.get_by_role("alert")).to_be_visible()
        seen.check(server.url, expected=["404"])


def test_corrections_outlive_their_job(browser: Browser, server: Server) -> None:
    said = [made("One two", 0.0), made("Three four", 2.0)]
    with reading_made(browser, server, {"segments": said}) as seen:
        page = seen.page
        retype(page, 0, "Corrected")
        page.unroute("**/status/made*")  # the service knows no such job
        page.reload()
        expect(page.get_by_text("Your corrected copy is kept in this browser.")).to_be_visible()
        retype(page, 1, "Something else")
        page.get_by_role("button", name="Undo: Edited text").click()
        segments(page).nth(1).locator(".words").dblclick(position={"x": 4, "y": 18})
        page.get_by_label("Text of the segment").fill("")
        page.wait_for_timeout(300)  # the draft is on its way to the disk
        page.reload()
        expect(segments(page)).to_have_text([re.compile("Corrected"), re.compile("Three four")])
        segments(page).nth(1).locator(".words").dblclick(position={"x": 4, "y": 18})
        page.get_by_label("Text of the segment").fill("Left in the middle")
        page.evaluate("location.hash = '#/queue'")
        expect(page.get_by_role("heading", name="What runs now")).to_be_visible()
        page.evaluate("location.hash = '#/job/made'")
        expect(segments(page).nth(1)).to_contain_text("Left in the middle")
        expect(page.locator(".messages .notice")).to_have_count(0)
        seen.complaints[:] = [text for text in seen.complaints if "404" not in text]


def test_a_job_that_is_opened_before_it_is_done(browser: Browser, server: Server) -> None:
    with reading(browser, server, handed_in(server, "en_short")) as seen:
        expect(seen.page.get_by_role("list", name="Speakers")).to_be_visible()
