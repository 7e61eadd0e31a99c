"""How fluent the page is with an hour of words: its first paint, and its frames while it is used.

A real browser (Chromium) shows a transcript of the demo models, repeated to 12,000 words.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import sqlalchemy as sa

from app.domain.transcript import Segment, Transcript
from app.jobs.database import Database
from app.jobs.spoken import words_of
from app.jobs.tables import jobs, spoken, transcripts
from app.jobs.transcripts import pack, unpack
from benchmarks.audio import DATA
from benchmarks.results import Figure, percentile, show
from benchmarks.servers import Server, running
from benchmarks.setup import OUT

if TYPE_CHECKING:
    from playwright.sync_api import Page

NUM_WORDS = 12_000
SOURCE = DATA / "en_two_b.flac"
MOST_FRAME_MS, MOST_PAINT_MS = 50.0, 1000.0
NUM_ACTS = 60
BETWEEN_MS = 60
POLL_MS = 300
PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
# How long each frame lasts, and when the first words are there.
WATCH = """
const seen = window.seen = { frames: [], words: null };
let last = performance.now();
const look = (now) => {
  seen.frames.push(now - last);
  last = now;
  seen.words ??= document.querySelector(".word") ? performance.now() : null;
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
NUM_SHOWN = "document.querySelectorAll('.word').length"


def run_page(repeats: int) -> Iterator[Figure]:
    with running("ours") as server, _browser() as new_page:
        job = _long_job(server)
        paints, words = zip(
            *(_opened(new_page(), server, job) for _ in range(repeats)), strict=True
        )
        yield _paint("first paint", paints)
        yield _paint("first words", words)
        page = new_page()
        _opened(page, server, job)
        for name, act in ACTS.items():
            yield _frames(f"frames while {name}", _during(page, act))


def _long_job(server: Server) -> str:
    """The ID of a finished job whose transcript has been made longer."""
    fields = {"model": "demo"}
    with SOURCE.open("rb") as file:
        answer = httpx.post(f"{server.url}/transcribe", files={"file": file}, data=fields)
    job = str(answer.raise_for_status().json()["task_id"])
    while (status := httpx.get(f"{server.url}/status/{job}").json()["status"]) != "done":
        if status in ("failed", "cancelled"):
            raise RuntimeError(f"the job is {status}")
        time.sleep(0.2)
    database = Database("", OUT / f"data-{server.url.rpartition(':')[2]}")
    try:
        _lengthen(database, job)
    finally:
        database.close()
    return job


def _lengthen(database: Database, job: str) -> None:
    with database.begin() as connection:
        kept = transcripts.c.job_id == job
        body = connection.execute(sa.select(transcripts.c.body).where(kept)).scalar_one()
        long = _repeated(unpack(body))
        connection.execute(sa.update(transcripts).where(kept).values(body=pack(long)))
        told = sa.update(spoken).where(spoken.c.job_id == job).values(words=words_of(long))
        connection.execute(told)
        changed = sa.update(jobs).where(jobs.c.id == job).values(audio_s=long.duration_s)
        connection.execute(changed)


def _repeated(transcript: Transcript) -> Transcript:
    num_words = sum(len(segment.words or ()) for segment in transcript.segments)
    times = -(-NUM_WORDS // num_words)
    segments = tuple(
        _later(segment, number * transcript.duration_s)
        for number in range(times)
        for segment in transcript.segments
    )
    return dataclasses.replace(
        transcript, segments=segments, duration_s=times * transcript.duration_s
    )


def _later(segment: Segment, by_s: float) -> Segment:
    def moved(time_s: float | None) -> float | None:
        return None if time_s is None else time_s + by_s

    words = tuple(
        dataclasses.replace(word, start_s=moved(word.start_s), end_s=moved(word.end_s))
        for word in segment.words or ()
    )
    return dataclasses.replace(
        segment, start_s=segment.start_s + by_s, end_s=segment.end_s + by_s, words=words
    )


@contextmanager
def _browser() -> Iterator[Callable[[], Page]]:
    """Makes tabs that have never been here."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=PROGRAM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield lambda: browser.new_context().new_page()
        browser.close()


def _opened(page: Page, server: Server, job: str) -> tuple[float, float]:
    """Milliseconds until something is painted, and until there are words. Returns once all words
    are there.
    """
    page.add_init_script(WATCH)
    page.goto(f"{server.url}/#/job/{job}")
    while page.evaluate(NUM_SHOWN) < NUM_WORDS:  # the page forbids what `wait_for_function` does
        page.wait_for_timeout(POLL_MS)
    page.wait_for_timeout(1000)
    return page.evaluate(PAINT), page.evaluate("seen.words")


def _during(page: Page, act: Callable[[Page, int], None]) -> list[float]:
    """How long frames last, in milliseconds."""
    page.evaluate("seen.frames.length = 0")
    for number in range(NUM_ACTS):
        act(page, number)
        page.wait_for_timeout(BETWEEN_MS)
    frames: list[float] = page.evaluate("seen.frames")
    return frames


def _scroll(page: Page, number: int) -> None:
    page.mouse.move(600, 600)
    page.mouse.wheel(0, 900 if number < NUM_ACTS * 2 / 3 else -900)


def _jump(page: Page, number: int) -> None:
    """To places far from each other."""
    place = (number * 37) % 100 / 100
    page.evaluate(
        "(share) => { const all = document.querySelectorAll('.segment');"
        "const node = all[Math.floor(share * all.length)];"
        "node.scrollIntoView({ block: 'center' }); node.querySelector('.word').click(); }",
        place,
    )


def _light(page: Page, number: int) -> None:
    """The place in the recording moves on, and the light with it."""
    page.keyboard.press("ArrowRight")


def _search(page: Page, number: int) -> None:
    if number == 0:
        page.locator("search input").fill("the")  # to look for a label takes seconds itself
    page.keyboard.press("Enter")


ACTS = {"scrolling": _scroll, "jumping": _jump, "lighting words": _light, "searching": _search}


def _paint(name: str, runs: Sequence[float]) -> Figure:
    middle = percentile(runs, 0.5)
    return _shown(
        Figure(f"page: {name}", middle, None, "ms", limit=MOST_PAINT_MS, runs={"ours": runs})
    )


def _frames(name: str, frames: Sequence[float]) -> Figure:
    middle, high = percentile(frames, 0.5), percentile(frames, 0.95)
    note = f"p50 {middle:.0f}, p95 {high:.0f} ms, {len(frames)} frames"
    longest = max(frames)
    return _shown(
        Figure(
            f"page: longest of {name}", longest, None, "ms", limit=MOST_FRAME_MS, note=note,
            runs={"ours": frames},
        )
    )  # fmt: skip


def _shown(figure: Figure) -> Figure:
    show(figure)
    return figure
