"""A transcript in the browser: read, heard, searched, corrected, kept, downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import srt
import webvtt
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.support.browser import WITH_BROWSER, Visit, violations, visit
from tests.support.server import Server
from tests.support.truth import (
    audio_of,
    median_start_error_s,
    speaker_accuracy,
    truth_of,
    word_error_rate,
)
from tests.support.waiting import eventually

pytestmark = WITH_BROWSER
CONVERSATION = "en_two_b"
PHONE = {"width": 360, "height": 740}
HOUR_WORDS, WORDS_IN_SEGMENT = 12_000, 12
# What is touched while a word follows another: two words, two segments.
MOST_TOUCHED = 4
READ = """() => [...document.querySelectorAll(".segment")].map((node) => ({
  speaker: node.querySelector(".who").textContent.trim(),
  text: node.querySelector(".words").textContent,
  words: [...node.querySelectorAll(".word")].map((word) => word.textContent),
}))"""
LIST = "document.querySelector('.segments')"
# Notes which words are lit, and how many nodes change between two frames.
WATCH = """() => {
  const seen = window.seen = { lit: [], most: 0 };
  let touched = new Set();
  const count = () => {
    seen.most = Math.max(seen.most, touched.size);
    touched = new Set();
    requestAnimationFrame(count);
  };
  new MutationObserver((records) => records.forEach(({ target }) => {
    touched.add(target);
    if (target.hasAttribute("data-lit")) seen.lit.push(target.textContent);
  })).observe(LIST, { subtree: true, childList: true, attributes: true });
  count();
}""".replace("LIST", LIST)
# Notes which segments are changed.
WATCH_SEGMENTS = """() => {
  const touched = window.touched = new Set();
  const segmentOf = (node) => (node.parentElement ?? node).closest("[data-id]") ?? node;
  new MutationObserver((records) => records.forEach(({ target }) => {
    touched.add(segmentOf(target).dataset.id ?? "the list");
  })).observe(LIST, { subtree: true, childList: true, characterData: true });
}""".replace("LIST", LIST)


@pytest.fixture(scope="module")
def server(remembering_server: Server) -> Server:
    return remembering_server


@pytest.fixture(scope="module")
def job(server: Server) -> str:
    files = {"file": ("Board meeting.flac", audio_of(CONVERSATION).read_bytes())}
    fields = {"model": "demo", "keep_audio": "true"}
    response = httpx.post(f"{server.url}/transcribe", files=files, data=fields, verify=False)
    task = str(response.json()["task_id"])
    eventually(lambda: server.get(f"/status/{task}").json()["status"] == "done", 300)
    return task


@pytest.fixture(scope="module")
def result(server: Server, job: str) -> dict[str, Any]:
    body: dict[str, Any] = server.get(f"/result/{job}").json()
    return body


@contextmanager
def reading(browser: Browser, server: Server, job: str, **context: Any) -> Iterator[Visit]:
    """A user's tab with the transcript. In the end, nothing was asked of other hosts, and nothing
    is in the console.
    """
    with visit(browser, server.url, f"#/job/{job}", **context) as seen:
        expect(segments(seen.page).first).to_be_visible()
        yield seen
        seen.check(server.url)


@contextmanager
def reading_made(
    browser: Browser, server: Server, body: dict[str, Any], **context: Any
) -> Iterator[Visit]:
    """The same with a transcript that no recording of a test has."""
    with visit(browser, server.url, **context) as seen:
        whole = {"language": "en", "file_name": "made.mp3", "warnings": [], **body}
        answers = {"status": {"status": "done", "audio": False}, "result": whole}
        for kind, answer in answers.items():
            seen.page.route(f"**/{kind}/made*", partial(_fulfill, json.dumps(answer)))
        seen.page.goto(f"{server.url}/#/job/made")
        expect(segments(seen.page).first).to_be_visible()
        yield seen
        seen.check(server.url)


def _fulfill(body: str, route: Route) -> None:
    route.fulfill(body=body, content_type="application/json")


def segments(page: Page) -> Locator:
    return page.locator(".segment")


def texts(page: Page) -> list[str]:
    return [segment["text"] for segment in page.evaluate(READ)]


def played_s(page: Page) -> float:
    return float(page.evaluate("document.querySelector('audio').currentTime"))


def downloaded(page: Page, title: str, folder: Path) -> Path:
    page.get_by_role("button", name="Download").click()
    with page.expect_download() as waiting:
        page.get_by_role("button", name=title, exact=True).click()
    file = folder / waiting.value.suggested_filename
    waiting.value.save_as(file)
    return file


def rename(page: Page, old: str, new: str) -> None:
    page.get_by_role("list", name="Speakers").get_by_role("button", name=old).click()
    page.get_by_label("Name, everywhere").fill(new)
    page.get_by_role("button", name="Rename").click()


def retype(page: Page, number: int, text: str, ending: str = "Enter") -> None:
    segments(page).nth(number).locator(".words").dblclick(position={"x": 4, "y": 18})
    page.get_by_label("Text of the segment").fill(text)
    page.keyboard.press(ending)
    expect(page.get_by_label("Text of the segment")).to_have_count(0)


def test_reading_and_listening(
    browser: Browser, server: Server, job: str, result: dict[str, Any]
) -> None:
    truth = truth_of(CONVERSATION)
    with reading(browser, server, job) as seen:
        page = seen.page
        expect(page.get_by_role("heading", name="Board meeting.flac")).to_be_visible()
        shown = page.evaluate(READ)
        said = [{"word": w, "speaker": s["speaker"]} for s in shown for w in s["words"]]
        assert (
            word_error_rate((w["word"] for w in truth["words"]), (w["word"] for w in said)) <= 0.02
        )
        assert speaker_accuracy(truth["words"], said) >= 0.98

        expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
        expect(page.locator(".waveform")).to_be_visible()
        words = [word for segment in result["segments"] for word in segment["words"]]
        page.locator(".word").nth(30).click()
        eventually(lambda: abs(played_s(page) - words[30]["start"]) < 0.01)
        expect(page.locator("[data-lit]")).to_have_text(words[30]["word"])

        page.evaluate(WATCH)
        page.keyboard.press("Space")
        eventually(lambda: page.evaluate("seen.lit.length") >= 8)
        page.keyboard.press("Space")
        noted = page.evaluate("seen")
        following = [word["word"] for word in words[31:]]
        assert [word for word in noted["lit"] if word in following] == noted["lit"]
        assert noted["lit"][0] in following[:4]  # a loaded machine may leave out some
        assert 2 <= noted["most"] <= MOST_TOUCHED
        assert played_s(page) > words[30]["start"] + 1


def test_corrections_are_kept_and_go_back(
    browser: Browser, server: Server, job: str, result: dict[str, Any]
) -> None:
    with reading(browser, server, job) as seen:
        page = seen.page
        original = page.evaluate(READ)
        rename(page, "Speaker 1", "Zoë <b>")
        retype(page, 1, original[1]["text"] + " Indeed")
        segments(page).nth(2).hover()
        segments(page).nth(2).get_by_label("Speaker and more").click()
        page.get_by_role("button", name="+ New speaker").click()
        retype(page, 3, original[3]["text"].replace(" ", " \n ", 1), "Control+Enter")
        changed = page.evaluate(READ)
        assert changed[0]["speaker"] == "Zoë <b>"
        assert changed[1]["text"] == original[1]["text"] + " Indeed"
        assert changed[2]["speaker"] == "Speaker 3"
        assert len(changed) == len(original)  # at the end, there is nothing to split

        other = seen.context.new_page()  # another tab sees the same, and what changes from now on
        other.goto(f"{server.url}/#/job/{job}")
        expect(segments(other).nth(1)).to_contain_text("Indeed")
        retype(other, 4, "From the other tab.")
        expect(segments(page).nth(4)).to_contain_text("From the other tab.")
        page.get_by_role("button", name="Undo: Changes in another tab").click()
        expect(segments(other).nth(4)).to_contain_text(original[4]["text"])
        other.close()

        segments(page).nth(5).locator(".words").dblclick(position={"x": 4, "y": 18})
        page.get_by_label("Text of the segment").fill("Not yet done with")
        page.wait_for_timeout(300)  # what is typed is on its way to the disk
        page.reload()
        expect(segments(page).nth(5)).to_contain_text("Not yet done with")
        expect(page.get_by_text("Edited. The changes are kept in this browser")).to_be_visible()
        kept = page.evaluate(READ)
        assert kept[:5] == changed[:5]

        page.get_by_role("list", name="Speakers").get_by_role("button", name="Speaker 2").click()
        page.get_by_label("Speaker Speaker 2").get_by_role("button", name="Zoë <b>").click()
        speakers = page.get_by_role("list", name="Speakers").get_by_role("listitem")
        expect(speakers).to_have_count(2)
        page.keyboard.press("Control+z")
        expect(speakers).to_have_count(3)
        page.keyboard.press("Control+Shift+z")
        expect(speakers).to_have_count(2)
        page.get_by_role("button", name="Discard edits").click()
        expect(page.get_by_text("Edited. The changes")).to_have_count(0)
        assert page.evaluate(READ) == original
        page.keyboard.press("Control+z")  # even this
        expect(speakers).to_have_count(2)
        page.get_by_role("button", name="Discard edits").click()
        page.reload()
        expect(segments(page)).to_have_count(len(original))
        assert page.evaluate(READ) == original


def test_some_words_go_to_another_speaker(browser: Browser, server: Server, job: str) -> None:
    with reading(browser, server, job) as seen:
        page = seen.page
        words = segments(page).nth(0).locator(".word")
        before = page.evaluate(READ)[0]
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
        first, last = words.nth(1).bounding_box(), words.nth(2).bounding_box()
        assert first is not None
        assert last is not None
        page.mouse.move(first["x"] + 1, first["y"] + 10)
        page.mouse.down()
        page.mouse.move(last["x"] + last["width"] - 1, last["y"] + 10, steps=4)
        page.mouse.up()
        page.get_by_role("button", name="Speaker of these 2 words…").click()
        menu = page.get_by_role("dialog", name="The selected words")
        menu.get_by_role("button", name="Speaker 2").click()
        expect(segments(page).nth(1)).to_contain_text("Speaker 2")
        after = page.evaluate(READ)[:3]
        assert [segment["words"] for segment in after] == [
            before["words"][:1], before["words"][1:3], before["words"][3:],
        ]  # fmt: skip
        assert [segment["speaker"] for segment in after] == ["Speaker 1", "Speaker 2", "Speaker 1"]
        assert played_s(page) == 0  # the selection was no click


def test_downloads_have_the_corrections(
    browser: Browser, server: Server, job: str, result: dict[str, Any], tmp_path: Path
) -> None:
    with reading(browser, server, job) as seen:
        page = seen.page
        rename(page, "Speaker 1", "Zoë")
        old = texts(page)[0]
        retype(page, 0, f"Please, {old[:1].lower()}{old[1:]}")
        said = texts(page)
        files = {
            title: downloaded(page, title, tmp_path)
            for title in (
                "Text", "Subtitles, SRT", "Subtitles, WebVTT", "Markdown, with times",
                "Table, TSV", "Data, JSON",
            )
        }  # fmt: skip
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"Board meeting.{kind}" for kind in ("json", "md", "srt", "tsv", "txt", "vtt")
    ]
    body = json.loads(files["Data, JSON"].read_text())
    words = [word for segment in body["segments"] for word in segment["words"]]
    assert [segment["text"] for segment in body["segments"]] == said
    assert {segment["speaker"] for segment in body["segments"]} == {"Zoë", "Speaker 2"}
    original = [word for segment in result["segments"] for word in segment["words"]]
    assert [w["start"] for w in words[2:]] == [w["start"] for w in original[1:]]
    assert median_start_error_s(truth_of(CONVERSATION)["words"], words) <= 0.020
    assert words[0]["word"] == "Please,"

    cues = list(srt.parse(files["Subtitles, SRT"].read_text()))
    assert cues[0].content == f"[Zoë]: {said[0]}"
    assert [cue.start.total_seconds() for cue in cues] == [s["start"] for s in body["segments"]]
    captions = webvtt.read(files["Subtitles, WebVTT"])
    assert [caption.text for caption in captions] == [cue.content for cue in cues]
    assert files["Text"].read_text().splitlines()[0] == f"[Zoë]: {said[0]}"
    assert files["Table, TSV"].read_text().splitlines()[1].endswith(f"\t{said[0]}")
    assert files["Markdown, with times"].read_text().count("**Zoë:**") >= 2


def test_keyboard_only(browser: Browser, server: Server, job: str, result: dict[str, Any]) -> None:
    with reading(browser, server, job) as seen:
        page = seen.page
        press = page.keyboard.press
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
        starts = [segment["start"] for segment in result["segments"]]
        for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
            press(key)
        eventually(lambda: abs(played_s(page) - starts[1]) < 0.01)
        expect(segments(page).nth(1)).to_be_focused()
        press("ArrowRight")
        eventually(lambda: abs(played_s(page) - starts[1] - 5) < 0.01)
        press("ArrowLeft")
        eventually(lambda: abs(played_s(page) - starts[1]) < 0.01)
        press("+")
        eventually(lambda: page.evaluate("document.querySelector('audio').playbackRate") == 1.25)
        press("-")
        expect(page.get_by_label("Speed")).to_have_value("1")

        press("Enter")
        press("End")
        page.keyboard.type(" ? + /")  # no keys of the reader while somebody types
        press("Enter")
        expect(segments(page).nth(1)).to_contain_text(result["segments"][1]["text"] + " ? + /")
        press("e")
        press("Home")
        press("Control+ArrowRight")
        press("Control+Enter")
        expect(segments(page)).to_have_count(len(starts) + 1)
        press("s")
        press("Tab")
        press("Enter")  # the second speaker
        expect(segments(page).nth(1)).to_contain_text("Speaker 2")
        press("Control+z")
        press("Control+z")
        press("Control+z")
        expect(page.get_by_text("Edited. The changes")).to_have_count(0)

        wanted = result["segments"][-1]["words"][0]["word"]
        press("/")
        page.keyboard.type(wanted.upper())
        count = page.locator(".find .count")
        expect(count).to_have_text(
            f"1 of {sum(text.lower().count(wanted.lower()) for text in texts(page))}"
        )
        press("Shift+Enter")
        expect(segments(page).last.locator(".word[data-hit=current]")).to_have_text(wanted)
        press("Escape")
        expect(page.locator("[data-hit]")).to_have_count(0)
        press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        press("Escape")
        press("Space")
        eventually(lambda: played_s(page) > starts[1] + 0.2)
        press("Space")
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()


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


def made(text: str, start: float, **more: Any) -> dict[str, Any]:
    """A segment with a word each third of a second."""
    words = [
        {"word": word, "start": start + i * 0.3, "end": start + i * 0.3 + 0.25, "score": 0.9}
        for i, word in enumerate(text.split())
    ]
    return {"start": start, "end": words[-1]["end"], "text": text, "words": words, **more}


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
