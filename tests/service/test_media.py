"""Recordings that are kept with their transcripts: played in ranges, by links, and removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest

from tests.support.keys import ALICE, BOB, bearer
from tests.support.media import FORMATS, encode, speech
from tests.support.server import Server, running_server
from tests.support.truth import (
    audio_of,
    median_start_error_s,
    truth_of,
    word_error_rate,
    words_of,
)
from tests.support.waiting import eventually

CAP_MB = 1
FLAC = audio_of("en_short").read_bytes()


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings: dict[str, Any] = {
        "API_KEYS": f"alice:{ALICE}, bob:{BOB}",
        "JOB_KEEP_AUDIO_MB": CAP_MB,
    }
    with running_server(tmp_path_factory.mktemp("keeping"), **settings) as running:
        yield running
        eventually(lambda: running.temp_files() == [])


def call(server: Server, method: str, path: str, key: str = ALICE, **more: Any) -> httpx.Response:
    headers = {**(bearer(key) if key else {}), **more.pop("headers", {})}
    return httpx.request(method, server.url + path, headers=headers, timeout=60, **more)


def done(server: Server, content: bytes = FLAC, name: str = "a.flac", **fields: str) -> str:
    """The ID of a job that has ended well."""
    data = {"language": "en", "diarize": "false", "keep_audio": "true", **fields}
    answer = call(server, "POST", "/transcribe", data=data, files={"file": (name, content)})
    assert answer.status_code == 202, answer.text
    task_id = str(answer.json()["task_id"])
    eventually(lambda: status(server, task_id)["status"] not in ("queued", "processing"), 300)
    assert status(server, task_id)["status"] == "done"
    return task_id


def status(server: Server, task_id: str) -> dict[str, Any]:
    body: dict[str, Any] = call(server, "GET", f"/status/{task_id}").json()
    return body


def num_uploads(server: Server) -> int:
    return len(list((server.folder / "data" / "uploads").iterdir()))


@pytest.fixture(scope="module")
def kept(keeping: Server) -> str:
    return done(keeping)


def part(server: Server, task_id: str, wanted: str, **headers: str) -> httpx.Response:
    return call(server, "GET", f"/media/{task_id}", headers={"Range": wanted, **headers})


def test_a_player_gets_what_it_asks_for(keeping: Server, kept: str) -> None:
    whole = call(keeping, "GET", f"/media/{kept}")
    assert (whole.status_code, whole.content) == (200, FLAC)
    assert whole.headers["content-type"] == "audio/flac"
    assert whole.headers["accept-ranges"] == "bytes"
    size, etag = len(FLAC), whole.headers["etag"]
    for wanted, begin, end in (
        ("bytes=0-", 0, size),
        ("bytes=0-0", 0, 1),
        (f"bytes={size - 1}-", size - 1, size),
        ("bytes=100-199", 100, 200),
        ("bytes=-10", size - 10, size),
        (f"bytes=5-{size * 9}", 5, size),
        (f"bytes=-{size * 9}", 0, size),
    ):
        found = part(keeping, kept, wanted, **{"If-Range": etag})
        assert (found.status_code, found.content) == (206, FLAC[begin:end]), wanted
        assert found.headers["content-range"] == f"bytes {begin}-{end - 1}/{size}"
    for wanted in ("bytes=a-b", "bytes=9-2", "seconds=1-2", "bytes=-", "bytes=0-1,5-6"):
        assert part(keeping, kept, wanted).status_code == 200, wanted
    for wanted in (f"bytes={size}-", "bytes=999999999999999999-", "bytes=-0"):
        refused = part(keeping, kept, wanted)
        assert refused.status_code == 416, wanted
        assert refused.headers["content-range"] == f"bytes */{size}"
    assert part(keeping, kept, "bytes=0-1", **{"If-Range": '"another"'}).content == FLAC
    unchanged = call(keeping, "GET", f"/media/{kept}", headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    head = call(keeping, "HEAD", f"/api/v1/media/{kept}")
    assert (head.headers["content-length"], head.content) == (str(size), b"")
    head = call(keeping, "HEAD", f"/media/{kept}", headers={"Range": "bytes=1-2"})
    assert head.headers["content-range"] == f"bytes 1-2/{size}"


def test_what_no_browser_plays_is_kept_as_mp3(keeping: Server) -> None:
    truth = truth_of("en_short")
    task_id = done(keeping, encode(FORMATS["avi with video"], (0.0, speech("en_short"))), "a.avi")
    mp3 = call(keeping, "GET", f"/media/{task_id}")
    assert mp3.headers["content-type"] == "audio/mpeg"
    files = {"audio_file": ("a.mp3", mp3.content)}
    query = "output=json&language=en&diarize=false&word_timestamps=true"
    heard = call(keeping, "POST", f"/asr?{query}", files=files).json()
    assert word_error_rate(" ".join(w["word"] for w in truth["words"]), heard["text"]) == 0
    assert median_start_error_s(truth["words"], words_of(heard)) < 0.1


def test_peaks_and_what_a_job_says_of_itself(keeping: Server, kept: str) -> None:
    body = call(keeping, "GET", f"/peaks/{kept}").json()
    truth = truth_of("en_short")
    assert body["duration"] == pytest.approx(truth["duration"], abs=0.05)
    assert 1000 < len(body["peaks"]) <= 4000
    assert 0 <= min(body["peaks"]) < max(body["peaks"]) <= 1
    told = status(keeping, kept)
    assert (told["audio"], told["language"], told["model"]) == (True, "en", "demo")
    assert told["duration"] == pytest.approx(truth["duration"], abs=0.05)


def test_a_link_works_without_a_key_until_it_expires(keeping: Server, kept: str) -> None:
    answer = call(keeping, "POST", f"/media/{kept}/link").json()
    assert answer["expires_in"] == 3600
    linked = call(keeping, "GET", answer["url"], key="", headers={"Range": "bytes=0-9"})
    assert (linked.status_code, linked.content) == (206, FLAC[:10])
    path, _, query = answer["url"].partition("?")
    signed = dict(parse_qsl(query))
    other = done(keeping)
    for wrong_path, change in (
        (path, {"expires": "1"}),
        (path, {"expires": str(int(signed["expires"]) + 1)}),
        (path, {"expires": "9" * 5000}),
        (path, {"expires": "²"}),
        (path, {"client": "bob"}),
        (path, {"client": "nobody"}),
        (path, {"signature": "é"}),
        (path, {"signature": ""}),
        (f"/media/{other}", {}),
        (f"/status/{kept}", {}),
        (f"/peaks/{kept}", {}),
    ):
        url = f"{wrong_path}?{urlencode({**signed, **change})}"
        assert call(keeping, "GET", url, key="").status_code == 401, url
    assert call(keeping, "POST", f"{path}/link?{query}", key="").status_code == 401
    assert call(keeping, "GET", path, key="").status_code == 401
    assert call(keeping, "GET", answer["url"], key="").status_code == 200


def test_nothing_is_kept_that_is_not_asked_for(keeping: Server, kept: str) -> None:
    before = num_uploads(keeping)
    task_id = done(keeping, keep_audio="false")
    eventually(lambda: num_uploads(keeping) == before)
    for path in (f"/media/{task_id}", f"/peaks/{task_id}"):
        answer = call(keeping, "GET", path)
        assert answer.status_code == 404
        assert "keep_audio" in answer.json()["detail"]
    assert status(keeping, task_id)["audio"] is False
    for path in (f"/media/{kept}", f"/peaks/{kept}"):
        assert call(keeping, "GET", path, BOB).status_code == 404


def test_a_recording_that_is_too_large_to_keep_is_transcribed(keeping: Server) -> None:
    before = num_uploads(keeping)
    large = encode(FORMATS["wav of floats, 5.1"], (0.0, speech("en_short")))
    assert len(large) > CAP_MB << 20
    answer = call(
        keeping,
        "POST",
        "/transcribe?keep_audio=1&diarize=false&language=en",
        files={"file": ("a.wav", large)},
    )
    assert answer.headers["x-asr-ignored"] == "keep_audio"
    task_id = answer.json()["task_id"]
    eventually(lambda: status(keeping, task_id)["status"] == "done", 300)
    eventually(lambda: num_uploads(keeping) == before)


def test_it_goes_with_its_transcript(keeping: Server) -> None:
    before = num_uploads(keeping)
    task_id = done(keeping)
    assert num_uploads(keeping) == before + 1
    assert call(keeping, "DELETE", f"/result/{task_id}").status_code == 200
    assert num_uploads(keeping) == before
    assert call(keeping, "GET", f"/media/{task_id}").status_code == 404


def test_the_history_is_searched_by_name_and_metadata(keeping: Server) -> None:
    name = 'Vorstand Ärzte <b>&"\u202e.flac'
    task_id = done(keeping, FLAC, name, metadata='{"Projekt": ["ZÜRICH", {"n": 17.5}]}')
    for search in ("vorstand ärzte", "ÄRZTE <B>", "zürich", "projekt", "17.5"):
        found = call(keeping, "GET", "/history", params={"search": search}).json()
        assert [task["task_id"] for task in found["tasks"]] == [task_id], search
        assert found["tasks"][0]["metadata"] == {"Projekt": ["ZÜRICH", {"n": 17.5}]}
    assert call(keeping, "GET", "/history", params={"search": "demo"}).json()["total"] == 0
    [said, *_] = call(keeping, "GET", f"/result/{task_id}").json()["full_text"].split()
    found = call(keeping, "GET", "/history", params={"search": said.upper()}).json()
    assert task_id in [task["task_id"] for task in found["tasks"]]
