"""What tests of the page's reader do in the browser, as a user would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.support.browser import Visit, visit
from tests.support.server import Server
from tests.support.truth import audio_of
from tests.support.waiting import eventually

CONVERSATION = "en_two_b"
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


def done_job(server: Server) -> str:
    """The id of a job with a recording that is kept."""
    task = handed_in(server, CONVERSATION)
    eventually(lambda: server.get(f"/status/{task}").json()["status"] == "done", 300)
    return task


def handed_in(server: Server, name: str) -> str:
    files = {"file": ("Board meeting.flac", audio_of(name).read_bytes())}
    fields = {"model": "demo", "keep_audio": "true"}
    response = httpx.post(f"{server.url}/transcribe", files=files, data=fields)
    return str(response.json()["task_id"])


@contextmanager
def reading(browser: Browser, server: Server, job: str, **context: Any) -> Iterator[Visit]:
    """A user's tab with the transcript. In the end, nothing was asked of other hosts, and nothing
    is in the console.
    """
    with visit(browser, server.url, f"#/job/{job}", **context) as seen:
        _wait_until_ready(seen.page)
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
        _wait_until_ready(seen.page)
        yield seen
        seen.check(server.url)


def _wait_until_ready(page: Page) -> None:
    """There are words to see, and keys work."""
    expect(segments(page).first).to_be_visible()
    expect(page.locator("article.reader:not([aria-busy])")).to_be_visible()


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


def made(text: str, start: float, **more: Any) -> dict[str, Any]:
    """A segment with a word each third of a second."""
    words = [
        {"word": word, "start": start + i * 0.3, "end": start + i * 0.3 + 0.25, "score": 0.9}
        for i, word in enumerate(text.split())
    ]
    return {"start": start, "end": words[-1]["end"], "text": text, "words": words, **more}
