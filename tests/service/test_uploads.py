"""The multipart form as it arrives: names, sizes, stalls, clients that go, full disks."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import httpx
import numpy as np
import psutil
import pytest

from tests.support.forms import (
    BOUNDARY,
    MULTIPART,
    answer,
    connect,
    file_part,
    form,
    part,
    refused,
    request_head,
    send,
    transcribed,
    works,
)
from tests.support.media import FORMATS, encode, speech
from tests.support.server import Server, running_server
from tests.support.truth import audio_of
from tests.support.waiting import PATIENCE_S, eventually

MAX_FILE_SIZE_MB = 310


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with narrow limits."""
    settings = {
        "MAX_FILE_SIZE_MB": MAX_FILE_SIZE_MB,
        "MAX_DURATION_SECONDS": 60,
        "UPLOAD_IDLE_TIMEOUT_SECONDS": 2.5,
    }
    with running_server(tmp_path_factory.mktemp("strict"), **settings) as running:
        yield running
        eventually(lambda: running.temp_files() == [])


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with 8 MB of disk for its temporary files."""
    folder = tmp_path_factory.mktemp("cramped")
    (folder / "tmp").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder / "tmp")]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not permitted here")
    try:
        with running_server(folder, TEMP_MIN_FREE_MB=0) as running:
            yield running
    finally:
        subprocess.run(["umount", str(folder / "tmp")], check=True)


# -- names ---------------------------------------------------------------------------------------

NAMES = {
    "path": b"../../../../etc/passwd",
    "windows path": b"C:\\Users\\x\\a.mp3",
    "quotes": b'a\\"b.mp3',
    "header injection": b"a.mp3%0d%0aSet-Cookie: x=1",
    "bare CR": b"a\rSet-Cookie: x=1\r.mp3",
    "NUL": b"a\0.mp3",
    "10 kB": b"x" * 10_000 + b".mp3",
    "emoji": "🎤 entrevista número 1.mp3".encode(),
    "invalid UTF-8": b"\xff\xfe\xfd.mp3",
    "empty": b"",
    "dots": b"..",
    "semicolon": b"a; b=c.mp3",
}


@pytest.mark.parametrize("kind", NAMES)
def test_absurd_file_names(server: Server, kind: str) -> None:
    before = set(server.folder.rglob("*"))
    response = send(server, form(file_part(name=NAMES[kind])))
    if kind == "bare CR":  # no header may have one
        refused(response, 400, "malformed")
        return
    transcribed(response)
    assert "set-cookie" not in response.headers
    disposition = response.headers["content-disposition"]
    assert disposition.startswith('attachment; filename="')
    assert len(disposition) < 1000
    assert "/" not in disposition
    assert set(server.folder.rglob("*")) == before


def test_a_file_without_a_name(server: Server) -> None:
    """Some clients send only a type; or the name as RFC 5987 spells it."""
    content = audio_of("en_short").read_bytes()
    typed = part("audio_file", content, more=b"Content-Type: audio/flac\r\n")
    transcribed(send(server, form(typed)))
    spelled = part("audio_file", content).replace(
        b'name="audio_file"', b"name=\"audio_file\"; filename*=UTF-8''a%20b.flac", 1
    )
    transcribed(send(server, form(spelled)))


# -- forms that are none -------------------------------------------------------------------------


def test_missing_and_misplaced_files(server: Server) -> None:
    content = audio_of("en_short").read_bytes()
    refused(send(server, form()), 422, "audio_file", "required")
    refused(send(server, form(part("language", b"en"))), 422, "audio_file", "required")
    refused(send(server, form(part("file", content, b"a.flac"))), 422, "audio_file", "required")
    refused(send(server, form(part("audio_file", b"speech.mp3"))), 422, "audio_file", "curl")
    refused(send(server, form(file_part(), file_part())), 422, "audio_file", "one file")
    works(server)


def test_forms_that_are_none(server: Server) -> None:
    body = form(file_part())
    for content_type in ("application/json", "audio/flac", "", "multipart/mixed; boundary=x"):
        refused(send(server, body, content_type), 422, "audio_file", "multipart/form-data")
    for content_type in ("multipart/form-data", 'multipart/form-data; boundary=""'):
        refused(send(server, body, content_type), 400, "Content-Type", "boundary")
    long = f"multipart/form-data; boundary={'b' * 5000}"
    refused(send(server, body, long), 400, "malformed")
    other = "multipart/form-data; boundary=somethingelse"
    refused(send(server, body, other), 400, "malformed", "boundary that Content-Type names")
    refused(send(server, b"garbage" * 100), 400, "malformed")
    refused(send(server, b"garbage" * 100), 400, "malformed")
    refused(send(server, b""), 400, "is incomplete")
    refused(send(server, body[:1000]), 400, "is incomplete")
    refused(send(server, file_part(name=b"x" * 20_000)), 400, "malformed")
    works(server)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "identity, deflate"])
def test_a_compressed_body(server: Server, coding: str) -> None:
    response = httpx.post(
        f"{server.url}/asr",
        content=gzip.compress(form(file_part())),
        headers={"Content-Type": MULTIPART, "Content-Encoding": coding},
    )
    refused(response, 415, "Content-Encoding", "compressed")
    assert response.headers["accept-encoding"] == "identity"
    works(server)


def test_a_part_that_is_encoded(server: Server) -> None:
    content = b64encode(audio_of("en_short").read_bytes())
    encoded = part("audio_file", content, b"a.flac", b"Content-Transfer-Encoding: base64\r\n")
    refused(send(server, form(encoded)), 415, "Content-Transfer-Encoding")
    plain = part("task", b"transcribe", more=b"Content-Transfer-Encoding: 8bit\r\n")
    transcribed(send(server, form(plain, file_part())))


def test_a_quoted_boundary_and_text_around_the_form(server: Server) -> None:
    quoted = f'Multipart/Form-Data; charset=utf-8; boundary="{BOUNDARY}"'
    transcribed(send(server, form(file_part()) + b"epilogue", quoted))


def test_too_many_fields(server: Server) -> None:
    for names in ([f"f{i}" for i in range(200)], ["same"] * 200):
        fields = [part(name, b"1") for name in names]
        refused(send(server, form(*fields, file_part())), 400, "100 fields")
    files = [part("other", b"1", b"a") for _ in range(200)]
    refused(send(server, form(*files, file_part())), 400, "100 fields")
    transcribed(send(server, form(*[part(f"f{i}", b"1") for i in range(50)], file_part())))
    works(server)


def test_a_large_field(server: Server) -> None:
    large = part("initial_prompt", b"a" * (1 << 20))
    refused(send(server, form(large, file_part())), 422, "initial_prompt", "64 kB")
    refused(send(server, form(file_part(), large)), 422, "initial_prompt", "64 kB")
    unknown = part("x" * 5000, b"a" * (1 << 20))
    refused(send(server, form(unknown, file_part())), 422, "64 kB")
    works(server)


def test_other_files_are_left_out(server: Server) -> None:
    other = part("attachment", b"\0" * 3_000_000, b"notes.bin")
    transcribed(send(server, form(other, file_part(), other)))
    refused(send(server, form(other)), 422, "audio_file: required", "not attachment")


def test_a_text_field_with_a_file_name_counts(server: Server) -> None:
    text = b"Content-Type: text/plain; charset=utf-8\r\n"
    fields = [part("language", b"en", b"language", text), part("model", b"demo", b"blob")]
    transcribed(send(server, form(*fields, file_part()), query="output=json"))
    wrong = part("task", b"sing", b"task")
    refused(send(server, form(file_part(), wrong), query="output=json"), 422, "task: 'sing'")
    listed = file_part().replace(b'"audio_file"', b'"audio_file[]"', 1)
    transcribed(send(server, form(listed)))


def test_a_form_in_tiny_pieces(server: Server) -> None:
    body = form(part("task", b"transcribe"), file_part())
    pieces = [body[i : i + 7] for i in range(0, 700, 7)]
    transcribed(send(server, iter([*pieces, body[700:]])))


# -- limits --------------------------------------------------------------------------------------


def test_ten_gigabytes_are_refused_unread(strict: Server) -> None:
    for more in ("", "Expect: 100-continue\r\n"):
        started = time.monotonic()
        with closing(connect(strict)) as connection:
            connection.sendall(request_head(10 << 30, more))
            status, body = answer(connection)
        assert (status, body["detail"]) == (
            413,
            f"The upload is larger than the limit of {MAX_FILE_SIZE_MB} MB.",
        )
        assert time.monotonic() - started < PATIENCE_S
    works(strict)


def zeros(num_mb: int) -> Iterator[bytes]:
    block = bytes(1 << 20)
    for _ in range(num_mb):
        yield block


def test_too_large_while_it_arrives(strict: Server) -> None:
    """Without a Content-Length, whatever part of the form the bytes are in."""
    for name in ("audio_file", "attachment"):

        def body(name: str = name) -> Iterator[bytes]:
            yield part(name, b"", b"a")[:-2]
            yield from zeros(MAX_FILE_SIZE_MB + 20)

        refused(send(strict, body()), 413, f"{MAX_FILE_SIZE_MB} MB")
    works(strict)


def test_a_large_upload_is_not_kept_in_memory(strict: Server) -> None:
    works(strict)
    process = psutil.Process(strict.process.pid)
    before = process.memory_info().rss
    peak = before

    def body() -> Iterator[bytes]:
        nonlocal peak
        yield part("audio_file", b"", b"a")[:-2]
        for index, block in enumerate(zeros(300)):
            yield block
            if index % 10 == 0:
                peak = max(peak, process.memory_info().rss)
        yield b"\r\n" + form()

    response = send(strict, body(), query="encode=false&output=json")
    refused(response, 413, "60 seconds")
    assert peak - before < 40 << 20
    works(strict)


@pytest.mark.parametrize("kind", ["flac", "webm", "mp3"])
def test_minutes_in_a_few_kilobytes(strict: Server, kind: str) -> None:
    bomb = encode(FORMATS[kind], (0, np.zeros(16_000 * 90, np.float32)))
    assert len(bomb) < 1_000_000
    started = time.monotonic()
    refused(send(strict, form(file_part(bomb))), 413, "60 seconds")
    assert time.monotonic() - started < PATIENCE_S
    works(strict)


def test_an_upload_that_stalls(strict: Server) -> None:
    started = time.monotonic()
    with closing(connect(strict)) as connection:
        connection.sendall(request_head(1_000_000) + file_part()[:1000])
        status, body = answer(connection)
    assert status == 408
    assert "2.5 seconds" in body["detail"]
    assert time.monotonic() - started < PATIENCE_S
    works(strict)


# -- clients that go -----------------------------------------------------------------------------


def test_hanging_up_during_the_upload(server: Server) -> None:
    body = form(file_part(os.urandom(3_000_000)))
    for length in (len(body), None):
        with closing(connect(server)) as connection:
            connection.sendall(request_head(length))
            sent = body[:2_000_000]
            connection.sendall(sent if length else f"{len(sent):x}\r\n".encode() + sent)
            eventually(lambda: len(server.temp_files()) == 1)
            eventually(lambda: server.get("/health").json()["requests"] == 1)
        works(server)


def test_half_a_body_and_a_half_closed_connection(server: Server) -> None:
    body = form(file_part())
    with closing(connect(server)) as connection:
        connection.sendall(request_head(len(body)) + body[:20_000])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536)[:12] in (b"", b"HTTP/1.1 400")
    works(server)


def test_hanging_up_during_transcription(server: Server) -> None:
    works(server)
    body = form(file_part(audio_of("en_long").read_bytes()))
    with closing(connect(server)) as connection:
        connection.sendall(request_head(len(body)) + body)
        eventually(lambda: server.get("/health").json()["requests"] == 1)
        time.sleep(0.3)
    started = time.monotonic()
    works(server)
    assert time.monotonic() - started < PATIENCE_S


# -- disk ----------------------------------------------------------------------------------------


def test_no_room_for_the_upload(cramped: Server) -> None:
    """Told by its length, by the bytes that came, and by a disk that somebody else has filled."""
    large = form(file_part(os.urandom(20_000_000)))
    refused(send(cramped, large), 507, "disk space")
    refused(send(cramped, iter([large])), 507, "disk space")
    works(cramped)
    with filled(cramped):
        refused(send(cramped, form(file_part())), 507, "disk space")
        assert "uploads are refused" in cramped.get("/health").json()["degraded"][0]
    assert cramped.get("/health").json()["degraded"] == []
    works(cramped)


@contextmanager
def filled(server: Server) -> Iterator[None]:
    filler = server.folder / "tmp" / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


def test_no_room_for_the_decoded_audio(cramped: Server) -> None:
    long = encode(FORMATS["webm"], (0, np.tile(speech("en_short"), 60)))
    assert len(long) < 3_000_000
    refused(send(cramped, form(file_part(long))), 507, "disk space")
    works(cramped)
