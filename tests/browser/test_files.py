"""The files view as people use it: adding, watching, finding, downloading, deleting."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.support.browser import WITH_BROWSER, violations, visit
from tests.support.keys import ALICE, BOB, bearer
from tests.support.paths import ROOT
from tests.support.reader import retype, segments
from tests.support.server import Server, running_server
from tests.support.truth import (
    audio_of,
    median_start_error_s,
    truth_of,
    word_error_rate,
    words_of,
)
from tests.support.waiting import eventually

pytestmark = WITH_BROWSER

SCRIPT = ROOT / "tests" / "support" / "faulty_jobs.py"
SHORT = audio_of("en_short").read_bytes()
SAID = "Can you check the report? The building is late."
HOSTILE = "<script>alert(1)</script>\u202egpj.🎉 " + "long" * 40 + ".mp3"
COPIES = "import('./web/js/parts/idb.js').then(({ all }) => all('uploads')).then((a) => a.length)"
GONE = ("Failed to load resource",)  # what the console says while the service is away


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It can be held or killed at each step of a job."""
    folder = tmp_path_factory.mktemp("files")
    with running_server(folder, script=SCRIPT, MAX_FILE_SIZE_MB="1") as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_left(service: Server) -> Iterator[None]:
    yield
    for task in tasks(service):
        httpx.delete(f"{service.url}/cancel/{task['task_id']}")
    eventually(lambda: all(t["status"] not in ("queued", "processing") for t in tasks(service)))
    for task in tasks(service):
        httpx.delete(f"{service.url}/result/{task['task_id']}")


def tasks(server: Server, **headers: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{server.url}/history", headers=headers).json()[
        "tasks"
    ]
    return found


@contextmanager
def held(server: Server, step: str) -> Iterator[None]:
    """Jobs wait at a step until the block ends."""
    file = server.folder / "faults" / step
    file.write_text("hold")
    try:
        yield
    finally:
        file.unlink()


def add(page: Page, *files: tuple[str, bytes]) -> None:
    page.locator("input[type=file]").set_input_files(
        [{"name": name, "mimeType": "audio/flac", "buffer": content} for name, content in files]
    )


def choose_options(page: Page) -> None:
    page.get_by_text("Options").click()
    page.get_by_label("Language").select_option("en")
    page.get_by_label("Tell speakers apart").uncheck()
    page.get_by_text("Options").click()


def row(page: Page, list_name: str, name: str) -> Locator:
    return page.get_by_role("list", name=list_name).get_by_role("listitem").filter(has_text=name)


def past(page: Page, name: str) -> Locator:
    return row(page, "Recordings", name)


def is_sound(page: Page) -> None:
    """For people who see badly, in both themes, and on a phone."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert violations(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.set_viewport_size({"width": 1280, "height": 720})


def downloaded(page: Page, button: Locator) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        button.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def test_a_file_becomes_a_transcript(browser: Browser, service: Server) -> None:
    with visit(browser, service.url, bypass_csp=True) as seen:
        page = seen.page
        expect(page.get_by_text("Transcripts of your recordings will be here.")).to_be_visible()
        choose_options(page)
        with held(service, "recognize"):
            add(page, ("team meeting.flac", SHORT))
            going = row(page, "In progress", "team meeting.flac")
            expect(going.get_by_role("progressbar", name="Done of")).to_be_visible()
            is_sound(page)
        expect(past(page, "team meeting.flac")).to_contain_text("English · demo")
        for search, number in (("BUILD late", 1), ("weather", 0)):
            page.get_by_label("Search recordings").fill(search)
            expect(past(page, "team meeting.flac")).to_have_count(number)
        page.get_by_label("Search recordings").fill("")
        page.get_by_label("Download as").select_option("srt")
        button = page.get_by_role("button", name="Download: team meeting.flac")
        name, content = downloaded(page, button)
        assert name == "team meeting.srt"
        assert "Can you check the report?" in content.decode()
        is_sound(page)
        page.get_by_role("link", name="team meeting.flac").click()
        [task] = tasks(service)
        expect(page).to_have_url(re.compile(f"#/job/{task['task_id']}$"))
        seen.check(service.url)
    body, truth = httpx.get(f"{service.url}/result/{task['task_id']}").json(), truth_of("en_short")
    assert word_error_rate(SAID, body["full_text"]) == 0
    assert median_start_error_s(truth["words"], words_of(body)) < 0.06
    assert {segment["speaker"] for segment in body["segments"]} == {None}
    media = httpx.get(f"{service.url}/media/{task['task_id']}")
    assert media.content == SHORT


def test_several_with_broken_ones_and_names_that_mean_harm(
    browser: Browser, service: Server
) -> None:
    with visit(browser, service.url, bypass_csp=True) as seen:
        page = seen.page
        choose_options(page)
        add(
            page,
            ("one.flac", SHORT),
            (HOSTILE, b"no media"),
            ("empty.mp3", b""),
            ("ONE.wav", SHORT),
        )
        empty = row(page, "In progress", "empty.mp3")
        expect(empty).to_contain_text("This file is empty.")
        broken = past(page, "alert(1)")
        expect(broken).to_contain_text("is not an audio or video file")
        expect(broken.locator(".name")).to_have_text(HOSTILE.replace("\u202e", ""))
        for name in ("one.flac", "ONE.wav"):
            expect(past(page, name)).to_contain_text("English")
        is_sound(page)
        empty.get_by_role("button", name="Remove").click()
        expect(page.get_by_role("heading", name="In progress")).to_have_count(0)

        page.get_by_label("Select all").check()
        button = page.get_by_role("button", name="Download 2 as a zip")
        name, content = downloaded(page, button)
        assert name == "transcripts.zip"
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
            names = sorted(archive.namelist())
            assert names in (["ONE (2).txt", "one.txt"], ["ONE.txt", "one (2).txt"])
            for text in names:
                assert archive.read(text).decode().split() == SAID.split()

        page.get_by_label("Search recordings").fill("🎉")
        expect(past(page, "one.flac")).to_have_count(0)
        broken.get_by_role("button", name="Delete").click()
        broken.get_by_role("button", name="Undo").click()
        broken.get_by_role("button", name="Try again").click()
        expect(broken).to_contain_text("is not an audio or video file")
        broken.get_by_role("button", name="Delete").click()
        expect(broken.get_by_role("button", name="Undo")).to_be_focused()
        is_sound(page)
        eventually(lambda: len(tasks(service)) == 2)
        expect(page.get_by_text("Nothing is found.")).to_be_visible()
        seen.check(service.url)


def test_cancelling_what_waits_and_what_is_sent(browser: Browser, service: Server) -> None:
    with visit(browser, service.url) as seen:
        page = seen.page
        page.route("**/transcribe", lambda route: None)  # it is never sent
        add(page, ("stuck.flac", SHORT))
        row(page, "In progress", "stuck.flac").get_by_role("button", name="Cancel").click()
        expect(row(page, "In progress", "stuck.flac")).to_have_count(0)
        page.unroute("**/transcribe")
        with held(service, "recognize"):
            add(page, ("running.flac", SHORT))
            running = row(page, "In progress", "running.flac")
            expect(running.get_by_role("progressbar", name="Done of")).to_be_visible()
            page.route("**/cancel/*", refuse(503, "Full."))
            running.get_by_role("button", name="Cancel").click()
            expect(page.locator(".messages")).to_contain_text("too much to do now")
            page.unroute("**/cancel/*")
            running.get_by_role("button", name="Cancel").click()
            expect(running).to_contain_text("Is being cancelled")
        expect(past(page, "running.flac")).to_contain_text("Cancelled")
        assert [task["file_name"] for task in tasks(service)] == ["running.flac"]
        seen.check(service.url, expected=GONE)


def test_what_is_deleted_already_is_not_deleted_again(browser: Browser, service: Server) -> None:
    with visit(browser, service.url) as seen:
        page = seen.page
        choose_options(page)
        names = ["kept.flac", "first.flac", "second.flac"]
        add(page, *((name, SHORT) for name in names))
        for name in names:
            expect(past(page, name)).to_be_visible()
        past(page, "kept.flac").get_by_role("button", name="Delete").click()
        page.get_by_label("Select all").check()
        page.get_by_role("button", name="Delete 2").click()
        past(page, "kept.flac").get_by_role("button", name="Undo").click()
        expect(past(page, "first.flac")).to_have_count(0)
        expect(past(page, "second.flac")).to_have_count(0)
        expect(past(page, "kept.flac")).to_be_visible()
        assert [task["file_name"] for task in tasks(service)] == ["kept.flac"]
        seen.check(service.url)


def test_limits_are_told_in_sentences(browser: Browser, service: Server) -> None:
    with visit(browser, service.url) as seen:
        page = seen.page
        add(page, ("huge.flac", bytes((1 << 20) + 1)))
        huge = row(page, "In progress", "huge.flac")
        expect(huge).to_contain_text("larger than the limit of 1 MB. Shorten it, or send only its")
        full = service.folder / "faults" / "full"
        full.touch()
        add(page, ("late.flac", SHORT))
        late = row(page, "In progress", "late.flac")
        again = late.get_by_role("button", name="Try again")
        expect(late).to_contain_text("The service has no disk space left for this.")
        for status, told in ((429, "as much as the service allows"), (503, "too much to do now")):
            page.route("**/transcribe", refuse(status, "Full.", **{"Retry-After": "3600"}))
            again.click()
            expect(late).to_contain_text(told)
            expect(late).to_contain_text("It is sent again by itself after 60 min.")
            page.unroute("**/transcribe")
        full.unlink()
        again.press("Enter")
        expect(past(page, "late.flac")).to_be_visible()
        huge.get_by_role("button", name="Remove").press("Enter")
        expect(page.get_by_role("button", name="Add recordings")).to_be_focused()
        seen.check(service.url, expected=GONE)


TRANSFER = """([name, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name));
  return transfer;
}"""
PASTE = """(clipboardData) => document.querySelector("input[type=search], button").dispatchEvent(
  new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }))"""


def test_files_are_dropped_and_pasted(browser: Browser, service: Server) -> None:
    with visit(browser, service.url) as seen:
        page = seen.page
        expect(page.get_by_text("Transcripts of your recordings will be here.")).to_be_visible()
        dropped = page.evaluate_handle(TRANSFER, ["dropped.flac", list(SHORT)])
        page.dispatch_event("main", "dragover", {"dataTransfer": dropped})
        expect(page.locator(".drop.over")).to_be_visible()
        page.dispatch_event("main", "drop", {"dataTransfer": dropped})
        expect(page.locator(".drop.over")).to_have_count(0)
        text = page.evaluate_handle("new DataTransfer()")
        assert page.evaluate(PASTE, text)  # text goes where it goes
        assert not page.evaluate(
            PASTE, page.evaluate_handle(TRANSFER, ["pasted.flac", list(SHORT)])
        )
        for name in ("dropped.flac", "pasted.flac"):
            expect(past(page, name)).to_contain_text("English")
        seen.check(service.url)


def test_a_reload_in_the_middle_of_an_upload_loses_nothing(
    browser: Browser, service: Server
) -> None:
    with visit(browser, service.url) as seen:
        page = seen.page
        page.route("**/transcribe", lambda route: None)
        add(page, ("slow.flac", SHORT), ("second.flac", SHORT), ("third.flac", SHORT))
        expect(row(page, "In progress", "third.flac")).to_contain_text("Waits to be sent.")
        eventually(lambda: page.evaluate(COPIES) == 3)
        page.unroute("**/transcribe")
        page.reload()
        for name in ("slow.flac", "second.flac", "third.flac"):
            expect(past(page, name)).to_be_visible()
        names = sorted(task["file_name"] for task in tasks(service))
        assert names == ["second.flac", "slow.flac", "third.flac"]
        page.reload()
        expect(past(page, "slow.flac")).to_be_visible()
        assert len(tasks(service)) == 3
        seen.check(service.url, expected=["ERR_ABORTED"])


def test_a_service_that_dies_in_the_middle_ends_what_it_began(
    browser: Browser, service: Server
) -> None:
    with visit(browser, service.url) as seen:
        page = seen.page
        (service.folder / "faults" / "recognize").write_text("kill")
        add(page, ("survivor.flac", SHORT))
        expect(past(page, "survivor.flac")).to_contain_text("English", timeout=240_000)
        assert not (service.folder / "faults" / "recognize").exists()
        expect(page.locator(".notice.bad")).to_have_count(0)
        seen.check(service.url, expected=GONE)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Behind a proxy's path."""
    settings = {"API_KEYS": f"alice:{ALICE},bob:{BOB}", "ROOT_PATH": "/speech"}
    with running_server(tmp_path_factory.mktemp("keyed"), **settings) as running:
        yield running


def tasks_of(server: Server, key: str) -> list[dict[str, Any]]:
    return tasks(server, Authorization=f"Bearer {key}")


def key_dialog(page: Page) -> Locator:
    return page.get_by_role("dialog", name="This service needs a key")


def enter(page: Page, key: str) -> None:
    key_dialog(page).get_by_label("API key").fill(key)
    key_dialog(page).get_by_label("API key").press("Enter")


def test_a_key_is_asked_for_kept_and_forgotten(browser: Browser, keyed: Server) -> None:
    with visit(browser, keyed.url, bypass_csp=True) as seen:
        page = seen.page
        dialog = key_dialog(page)
        dialog.get_by_label("API key").fill("wrong")
        is_sound(page)
        dialog.get_by_role("button", name="Continue").click()
        expect(dialog).to_contain_text("This API key is not known.")
        dialog.get_by_role("button", name="Not now").click()
        page.get_by_role("button", name="Enter a key").click()
        enter(page, ALICE)
        choose_options(page)
        add(page, ("mine.flac", SHORT))
        expect(past(page, "mine.flac")).to_contain_text("English")
        page.goto(f"{keyed.url}/speech")
        expect(past(page, "mine.flac")).to_be_visible()
        [task] = tasks_of(keyed, ALICE)
        address = page.evaluate(
            "id => import('./web/js/api/jobs.js').then((jobs) => jobs.mediaAddress(id))",
            task["task_id"],
        )
        assert httpx.get(address).content == SHORT
        is_sound(page)
        page.get_by_role("button", name="Forget the key").click()
        expect(dialog).to_be_visible()
        expect(past(page, "mine.flac")).to_have_count(0)
        dialog.get_by_role("button", name="Not now").click()
        page.get_by_role("button", name="Enter a key").click()
        enter(page, ALICE)
        expect(past(page, "mine.flac")).to_be_visible()
        seen.check(keyed.url, expected=["401"])


def test_a_file_of_somebody_unknown_is_not_sent_with_a_key(browser: Browser, keyed: Server) -> None:
    with visit(browser, keyed.url) as seen:
        key_dialog(seen.page).get_by_role("button", name="Not now").click()
        add(seen.page, ("stray.flac", SHORT))
        key_dialog(seen.page).get_by_role("button", name="Not now").click()
        eventually(lambda: seen.page.evaluate(COPIES) == 1)
        page = seen.context.new_page()  # somebody else's
        seen.page.close()
        page.goto(keyed.url)
        enter(page, BOB)
        stray = row(page, "In progress", "stray.flac")
        expect(stray).to_contain_text("This was added before a key was given")
        page.reload()
        expect(stray).to_contain_text("This was added before a key was given")
        assert tasks_of(keyed, BOB) == []
        stray.get_by_role("button", name="Try again").click()
        expect(past(page, "stray.flac")).to_be_visible()
        assert [task["file_name"] for task in tasks_of(keyed, BOB)] == ["stray.flac"]
        httpx.delete(
            f"{keyed.url}/result/{tasks_of(keyed, BOB)[0]['task_id']}", headers=bearer(BOB)
        )


# As the recorder leaves it: with its sound in a piece of its own.
RECORD = """async () => {
  const { note, keepPiece } = await import("./web/js/record/recordings.js");
  const { currentOwner } = await import("./web/js/keys/owner.js");
  await note({
    id: "r", owner: currentOwner(), name: "Spoken.webm", type: "audio/webm",
    startedAt: new Date().toISOString(), seconds: 3, pieces: 1, taskId: "", error: "",
  });
  await keepPiece("r", 0, new Blob(["sound"]));
}"""
KEPT = """async () => {
  const { keys, all } = await import("./web/js/parts/idb.js");
  const stores = ["edits", "recordings", "uploads"];
  const names = await Promise.all(stores.map(keys)), values = await Promise.all(stores.map(all));
  const text = JSON.stringify([names, values, localStorage]);
  return { numbers: names.map((store) => store.length), text };
}"""


def test_what_a_key_made_is_not_seen_or_sent_by_another(browser: Browser, keyed: Server) -> None:
    for task in tasks_of(keyed, ALICE):
        httpx.delete(f"{keyed.url}/result/{task['task_id']}", headers=bearer(ALICE))
    with visit(browser, keyed.url, bypass_csp=True) as seen:
        page = seen.page
        enter(page, ALICE)
        add(page, ("done.flac", SHORT))
        page.get_by_role("link", name="done.flac").click()
        expect(segments(page).first).to_be_visible()
        retype(page, 0, "Corrected by Alice")
        page.get_by_role("link", name="Files", exact=True).click()
        page.evaluate(RECORD)
        page.route("**/transcribe", lambda route: None)
        add(page, ("secret.flac", SHORT))
        eventually(lambda: page.evaluate(KEPT)["numbers"] == [1, 2, 1])
        assert ALICE not in page.evaluate(KEPT)["text"]

        page.route(re.compile(r"/history\?"), refuse(401, "This API key is not known."))
        expect(key_dialog(page)).to_contain_text("This API key is not known.")
        is_sound(page)
        page.unroute_all()
        enter(page, BOB)
        expect(page.get_by_text("Transcripts of your recordings will be here.")).to_be_visible()
        expect(page.get_by_role("heading", name="In progress")).to_have_count(0)
        page.get_by_role("link", name="Record", exact=True).click()
        expect(page.get_by_role("button", name="Start recording")).to_be_visible()
        expect(page.get_by_text("Spoken.webm")).to_have_count(0)
        assert tasks_of(keyed, BOB) == []
        page.get_by_role("button", name="Forget the key").click()

        enter(page, ALICE)
        expect(page.get_by_text("Spoken.webm")).to_be_visible()
        page.get_by_role("link", name="Files", exact=True).click()
        expect(past(page, "secret.flac")).to_contain_text("English")
        page.get_by_role("link", name="done.flac").click()
        expect(segments(page).first).to_contain_text("Corrected by Alice")
        page.get_by_role("button", name="Forget the key").click()
        dialog = page.get_by_role("dialog", name="Forget the key")
        expect(dialog).to_contain_text("keeps 1 recording and the corrections of 1 transcript.")
        dialog.get_by_role("button", name="Also clear what this browser keeps").click()
        is_sound(page)
        dialog.get_by_role("button", name="Keep them").click()
        dialog.get_by_role("button", name="Also clear what this browser keeps").click()
        dialog.get_by_role("button", name="Delete them").click()
        expect(key_dialog(page)).to_be_visible()
        assert page.evaluate(KEPT)["numbers"] == [0, 0, 0]
        enter(page, ALICE)
        expect(segments(page).first).to_contain_text("Can you check the report?")
        seen.check(keyed.url, expected=["401", "ERR_ABORTED"])


def refuse(status: int, detail: str, **headers: str) -> Callable[[Route], None]:
    """What a route of Playwright answers."""
    body = json.dumps({"detail": detail})
    return lambda route: route.fulfill(status=status, body=body, headers=headers)


def test_without_jobs_the_page_says_so(browser: Browser, tmp_path: Path) -> None:
    with running_server(tmp_path, JOBS="false") as jobless, visit(browser, jobless.url) as seen:
        expect(seen.page.get_by_text("turned jobs off")).to_be_visible()
        seen.check(jobless.url, expected=["404"])
