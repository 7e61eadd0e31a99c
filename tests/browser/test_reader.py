"""A transcript in the browser: read, heard, searched, corrected, kept, downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import srt
import webvtt
from playwright.sync_api import Browser, Locator, expect

from tests.support.browser import WITH_BROWSER
from tests.support.reader import (
    CONVERSATION,
    MOST_TOUCHED,
    READ,
    WATCH,
    done_job,
    downloaded,
    played_s,
    reading,
    rename,
    retype,
    segments,
    texts,
)
from tests.support.server import Server
from tests.support.truth import (
    median_start_error_s,
    speaker_accuracy,
    truth_of,
    word_error_rate,
)
from tests.support.waiting import eventually

pytestmark = WITH_BROWSER


@pytest.fixture(scope="module")
def job(server: Server) -> str:
    return done_job(server)


@pytest.fixture(scope="module")
def result(server: Server, job: str) -> dict[str, Any]:
    body: dict[str, Any] = server.get(f"/result/{job}").json()
    return body


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
        page.get_by_role("button", name="Undo: Edited text").click()
        expect(segments(page).nth(5)).to_contain_text(original[5]["text"])
        page.get_by_role("button", name="Redo: Edited text").click()

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
        for _ in range(3):
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


def test_the_focus_stays_near_what_was_done(browser: Browser, server: Server, job: str) -> None:
    with reading(browser, server, job) as seen:
        page, press = seen.page, seen.page.keyboard.press

        def speaker(name: str) -> Locator:
            return page.get_by_role("list", name="Speakers").get_by_role("button", name=name)

        press("ArrowDown")
        expect(segments(page).nth(1)).to_be_focused()
        press("s")
        press("Tab")
        press("Enter")
        expect(page.get_by_role("button", name="Undo: Changed the speaker")).to_be_enabled()
        expect(segments(page).nth(1)).to_be_focused()
        speaker("Speaker 1").focus()
        press("Enter")
        page.keyboard.type("Zoë")
        press("Enter")
        expect(speaker("Zoë")).to_be_focused()
        press("Enter")
        press("Escape")
        expect(speaker("Zoë")).to_be_focused()
        for key in ("Enter", "Tab", "Tab", "Enter"):  # the same person as the other one
            press(key)
        expect(speaker("Zoë")).to_have_count(0)
        expect(speaker("Speaker 2")).to_be_focused()
        page.get_by_role("button", name="Download").focus()
        press("Enter")
        press("Escape")
        expect(page.get_by_role("button", name="Download")).to_be_focused()
        page.get_by_role("button", name="Discard edits").press("Enter")
        expect(page.locator(".segment:focus")).to_have_count(1)
