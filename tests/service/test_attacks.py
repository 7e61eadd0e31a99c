"""Hostile clients over HTTP: a documented answer in bounded time, nothing left over, and the next
request is served.
"""

from __future__ import annotations

import gzip
import re
import resource
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from io import BytesIO
from typing import Any

import av
import httpx
import numpy as np
import psutil
import pytest

from tests.support.costly import flac, wav
from tests.support.forms import (
    BOUNDARY,
    MULTIPART,
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
from tests.support.media import Media, encode, speech
from tests.support.server import Server, running_server
from tests.support.truth import audio_of
from tests.support.waiting import eventually

MAX_FILE_SIZE_MB = 20
MAX_CONNECTIONS = 200
HEAD_TIMEOUT_S = 1.5
KEEP_ALIVE_S = 2.5
DOCUMENTED = {200, 400, 408, 413, 422, 503, 504, 507}
BOUNDED_S = 60.0  # far above what any of it takes, far below any wait that a bug would cause


@pytest.fixture(scope="module")
def fort(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "MAX_FILE_SIZE_MB": MAX_FILE_SIZE_MB,
        "MAX_DURATION_SECONDS": 60,
        "MAX_STREAMS": 8,
        "MAX_CONCURRENT_UPLOADS": 3,
        "MAX_CONNECTIONS": MAX_CONNECTIONS,
        "CONNECTION_TIMEOUT_SECONDS": HEAD_TIMEOUT_S,
        "KEEP_ALIVE_TIMEOUT_SECONDS": KEEP_ALIVE_S,
        "UPLOAD_IDLE_TIMEOUT_SECONDS": 2,
        "UPLOAD_MIN_BYTES_PER_SECOND": 2000,
        "DECODE_WORKERS": 1,
    }
    with running_server(tmp_path_factory.mktemp("fort"), **settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _goes_on(fort: Server) -> Iterator[None]:
    """After each attack, in bounded time: no file, no queue entry, and the next request works."""
    started = time.monotonic()
    yield
    if fort.process.poll() is None:
        works(fort)
    assert time.monotonic() - started < 2 * BOUNDED_S


def raw(server: Server, request: bytes) -> tuple[int, str]:
    """Status and body of the answer to these bytes; status 0 where the line is just closed."""
    with closing(connect(server)) as connection:
        connection.sendall(request)
        return read_answer(connection)


def read_answer(connection: socket.socket, received: bytes = b"") -> tuple[int, str]:
    connection.settimeout(BOUNDED_S)
    with suppress(ConnectionResetError):
        while not complete(received) and (data := connection.recv(65536)):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body.decode()


def complete(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return bool(found and length and len(body) >= int(length[1]))


def num_connections(server: Server) -> int:
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(c.status == psutil.CONN_ESTABLISHED for c in found)


# -- heads of requests ---------------------------------------------------------------------------

FAT_HEADS = {
    "one long header": (b"GET /health HTTP/1.1\r\nX: " + b"a" * 80_000 + b"\r\n\r\n", 431),
    "a header without end": (b"GET /health HTTP/1.1\r\nX: " + b"a" * 400_000, 431),
    "many headers": (b"GET /health HTTP/1.1\r\n" + b"X: 1\r\n" * 300 + b"\r\n", 431),
    "a long path": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "a long query": (b"POST /asr?hotwords=" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "a path without end": (b"GET /" + b"a" * 400_000, 431),
}


def test_a_head_that_is_too_large(fort: Server) -> None:
    for kind, (head, expected) in FAT_HEADS.items():
        status, body = raw(fort, head)
        assert status == expected, kind
        assert "too l" in body


STRANGE_HEADS = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "nonsense": b"hello?\r\n\r\n",
    "two lengths": b"POST /asr HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": (
        b"POST /asr HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a negative length": b"POST /asr HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "an absurd length": b"POST /asr HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "a bare line feed": b"GET /health HTTP/1.1\r\nX: a\nHost: b\r\n\r\n",
    "a bad chunk": request_head(None) + b"zz\r\nabc",
}


def test_what_is_not_http(fort: Server) -> None:
    for kind, head in STRANGE_HEADS.items():
        status, body = raw(fort, head)
        assert status == 400, kind
        assert body == '{"detail": "The request is not valid HTTP."}'


def test_a_head_that_never_ends(fort: Server) -> None:
    """Byte by byte, as "slow loris" does; and clients that say nothing at all."""
    started = time.monotonic()
    with closing(connect(fort)) as silent, closing(connect(fort)) as slow:
        slow.settimeout(0.1)
        received = b""
        for byte in b"GET /health HTTP/1.1\r\nX: " + b"a" * 1000:
            try:
                slow.sendall(bytes([byte]))
                received = slow.recv(65536)
                break
            except TimeoutError:
                continue
        assert b" 408 " in received
        assert b"did not arrive in time" in received
        assert read_answer(silent) == (0, "")
    assert HEAD_TIMEOUT_S < time.monotonic() - started < BOUNDED_S


def test_a_connection_is_used_again_and_then_closed(fort: Server) -> None:
    """The time for the next head begins with its first byte."""
    with closing(connect(fort)) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(connection)[0] == 200
            time.sleep(HEAD_TIMEOUT_S / 2)
        connection.sendall(b"GET /hea")
        assert read_answer(connection)[0] == 408


def test_an_idle_connection_stays_open_for_a_while(fort: Server) -> None:
    """Longer than a head may take: what pools of clients rely on."""
    with closing(connect(fort)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(connection)[0] == 200
        answered = time.monotonic()
        assert read_answer(connection) == (0, "")
        assert KEEP_ALIVE_S - 0.5 < time.monotonic() - answered < BOUNDED_S


def test_blank_lines_hold_no_connection(fort: Server) -> None:
    with closing(connect(fort)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(connection)[0] == 200
        connection.sendall(b"\r\n")
        assert read_answer(connection) == (0, "")


# -- connections ---------------------------------------------------------------------------------


def test_five_hundred_connections_at_once(fort: Server) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(connect(fort))) for _ in range(500)]
        assert fort.get("/health").status_code == 200
        assert num_connections(fort) <= MAX_CONNECTIONS + 5
        transcribed(send(fort, form(file_part())))
        assert len(idle) == 500


def test_a_client_that_does_not_take_its_answers(fort: Server) -> None:
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", int(fort.url.rsplit(":", 1)[1])))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
        eventually(lambda: num_connections(fort) >= 1)
        eventually(lambda: num_connections(fort) == 0)


# -- uploads -------------------------------------------------------------------------------------


def test_an_upload_that_drips(fort: Server) -> None:
    with closing(connect(fort)) as connection:
        connection.sendall(request_head(1_000_000) + file_part()[:1000])
        connection.settimeout(0.1)
        received = b""
        deadline = time.monotonic() + BOUNDED_S
        while not received and time.monotonic() < deadline:
            connection.sendall(b"x")
            try:
                received = connection.recv(65536)
            except TimeoutError:
                continue
        status, text = read_answer(connection, received)
    assert status == 408
    assert "slower than 2000 bytes per second" in text
    assert b"connection: close" in received.lower()


def test_an_upload_over_a_slow_line(fort: Server) -> None:
    """Longer than an upload may pause, but with something coming all the time."""
    body = form(file_part())
    step = len(body) // 16

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), step):
            yield body[start : start + step]
            time.sleep(0.15)

    transcribed(send(fort, pieces()))


def test_uploads_that_stand_still_make_room(fort: Server) -> None:
    """They keep their places only while nobody else needs one."""
    with ExitStack() as stack:
        idle = []
        for _ in range(3):
            idle.append(stack.enter_context(closing(connect(fort))))
            idle[-1].sendall(request_head(1_000_000) + file_part()[:1000])
        eventually(lambda: len(fort.temp_files()) == 3)
        eventually(lambda: send(fort, form(file_part())).status_code == 200)
        status, text = read_answer(idle[0])
        assert status == 408
        assert "others waited" in text


def test_silent_uploads_give_way_and_can_be_cancelled(fort: Server) -> None:
    """At once, although nothing comes on their connections."""
    with ExitStack() as stack:

        def silent(number: int) -> socket.socket:
            connection = stack.enter_context(closing(connect(fort)))
            head = request_head(1_000_000, f"X-Request-ID: silent-{number}\r\n")
            connection.sendall(head + file_part()[:10_000])
            eventually(lambda: f'"silent-{number}"' in fort.get("/queue").text)
            return connection

        first = silent(0)
        assert httpx.delete(f"{fort.url}/queue/silent-0").status_code == 204
        assert read_answer(first)[0] == 410
        *_, newest = [silent(number) for number in (1, 2, 3)]
        other = httpx.post(
            f"{fort.url}/asr?output=json",
            content=form(file_part()),
            headers={"Content-Type": MULTIPART, "X-Forwarded-For": "192.0.2.1"},
            timeout=60,
        )
        transcribed(other)
        status, text = read_answer(newest)
        assert status == 503
        assert "Other clients" in text


def endless(first: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield bytes(1 << 16)


ENDLESS = {
    "file": lambda: file_part(b"")[:-2],
    "ignored file": lambda: part("other", b"", b"a")[:-2],
    "epilogue": lambda: form(file_part()),
    "preamble": lambda: b"\r\n",
}


def test_a_body_without_end(fort: Server) -> None:
    for first in ENDLESS.values():
        num_sent = 0
        with closing(connect(fort)) as connection:
            connection.sendall(request_head(None))
            # until the answer came, and then the end of patience
            with suppress(BrokenPipeError, ConnectionResetError):
                for piece in endless(first()):
                    connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
                    num_sent += len(piece)
                    assert num_sent < 200 << 20
        assert num_sent > MAX_FILE_SIZE_MB << 20


def chunked(body: bytes) -> bytes:
    """But for its end, which comes after the trailers."""
    return b"%x\r\n%b\r\n0\r\n" % (len(body), body)


def test_trailers_without_end(fort: Server) -> None:
    """Headers once more, after the last chunk of a body."""
    trailers = b"a: " + b"v" * 1000 + b"\r\n"
    num_sent = 0
    with closing(connect(fort)) as connection:
        connection.sendall(request_head(None) + chunked(form(file_part())))
        with suppress(BrokenPipeError, ConnectionResetError):
            while num_sent < 20 << 20:
                connection.sendall(trailers * 64)
                num_sent += 64 * len(trailers)
    assert num_sent < 20 << 20


def test_trailers_are_nobodys_headers(fort: Server) -> None:
    """Nor do they count as such: there are more of them than a request may have headers."""
    trailers = b"X-Note: 1\r\n" * 300
    request = request_head(None) + chunked(form(file_part())) + trailers + b"\r\n"
    with closing(connect(fort)) as connection:
        for _ in range(2):
            connection.sendall(request)
            status, body = read_answer(connection)
            assert status == 200, body


def test_a_body_for_an_endpoint_that_wants_none(fort: Server) -> None:
    with httpx.Client() as client:
        for path in ("/nowhere", "/health", "/queue"):
            response = client.post(fort.url + path, content=bytes(1 << 20))
            assert response.status_code in (404, 405)
            assert "connection" not in response.headers
    with closing(connect(fort)) as connection:  # promised and never sent
        connection.sendall(b"GET /health HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
        assert read_answer(connection)[0] == 200
        assert connection.recv(100) == b""


def test_a_hundred_thousand_parts(fort: Server) -> None:
    field = part("a", b"")
    refused(send(fort, form(field * 100_000, file_part())), 400, "100 fields")


def test_a_compressed_body(fort: Server) -> None:
    """Content-Encoding is not undone, so there is nothing to blow up."""
    bomb = gzip.compress(form(file_part(bytes(30 << 20))))
    response = httpx.post(
        fort.url + "/asr",
        content=bomb,
        headers={
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Content-Encoding": "gzip",
        },
        timeout=BOUNDED_S,
    )
    refused(response, 415, "compressed")


BOUNDARIES = [
    '""', '"a b"', '"a;b"', "a;boundary=b", "--", "a" * 70, "a" * 71, "'()+_,-./:=?", "é", "a,b",
    '"\\""', '"\t"', "frontier\tx",
]  # fmt: skip


def test_odd_boundaries(fort: Server) -> None:
    for boundary in BOUNDARIES:
        body = form(file_part()).replace(BOUNDARY.encode(), boundary.strip('"').encode())
        response = httpx.post(
            fort.url + "/asr?language=en&diarize=false&output=json",
            content=body,
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}".encode()},
            timeout=BOUNDED_S,
        )
        assert response.status_code in (200, 400, 422), response.text


def test_forms_within_forms(fort: Server) -> None:
    inner = form(file_part())
    for depth in range(20):
        name = f"b{depth}".encode()
        head = b'Content-Disposition: form-data; name="audio_file"; filename="a"\r\n'
        head += b"Content-Type: multipart/mixed; boundary=" + name + b"\r\n\r\n"
        inner = b"--" + name + b"\r\n" + head + inner + b"\r\n--" + name + b"--\r\n"
    refused(send(fort, inner, "multipart/form-data; boundary=b19"), 400, "decoded")


# -- names ---------------------------------------------------------------------------------------


def test_no_header_comes_out_of_a_file_name(fort: Server) -> None:
    spelled = part("audio_file", audio_of("en_short").read_bytes()).replace(
        b'name="audio_file"',
        b"name=\"audio_file\"; filename*=UTF-8''a%0d%0aSet-Cookie:%20x=1%0d%0a%0d%0a<script>.flac",
        1,
    )
    response = send(fort, form(spelled))
    transcribed(response)
    assert "set-cookie" not in response.headers
    assert not {"\r", "\n"} & set(response.headers["content-disposition"])


MODELS = [
    "../../../etc/passwd", "/etc/passwd", "..\\..\\windows", "demo/../demo", "%2e%2e", "~root",
    "file:///etc/passwd", "http://127.0.0.1:1/x", "demo\r\nx", "a" * 30_000,
]  # fmt: skip


def test_models_are_names_and_no_paths(fort: Server) -> None:
    for model in MODELS:
        response = fort.post(audio_of("en_short"), fields={"model": model})
        refused(response, 422, "not offered")
        assert len(response.text) < 2000


# -- bombs ---------------------------------------------------------------------------------------


def claims_a_day(container: str, codec: str) -> bytes:
    """A beep now and then, a day of silence in between: a few kilobytes."""
    beep = np.full(800, 0.1, np.float32)
    return encode(Media(container, codec, 48_000), *[(i * 3000.0, beep) for i in range(30)])


def test_a_day_in_a_few_kilobytes(fort: Server) -> None:
    # Ogg's clock may jump: what is left of the day then are the beeps
    kinds = {("matroska", "libopus"): {413}, ("mp4", "aac"): {413}, ("ogg", "libopus"): {200, 413}}
    for (container, codec), expected in kinds.items():
        bomb = claims_a_day(container, codec)
        assert len(bomb) < 40_000
        assert send(fort, form(file_part(bomb))).status_code in expected, container


def test_a_day_of_silence_in_full(fort: Server) -> None:
    bomb = encode(Media("flac", "flac", 16_000), (0, np.zeros(16_000 * 3600, np.float32)))
    started = time.monotonic()
    refused(send(fort, form(file_part(bomb))), 413, "60 seconds")
    assert time.monotonic() - started < BOUNDED_S


def test_small_files_that_cause_much_work(fort: Server) -> None:
    """Frames of two rates in turn, filters that fill the memory, a second for each byte."""
    for bomb in (flac(1200, 16, 9, 10), wav(100_000_000, 4000), wav(1, 57_000)):
        assert len(bomb) < 60_000
        refused(send(fort, form(file_part(bomb))), 400, "work" if bomb[0] == 102 else "rate")


def tracks(number: int) -> bytes:
    file = BytesIO()
    samples = (speech("en_short") * 32767).astype(np.int16).reshape(1, -1)
    with av.open(file, "w", format="matroska") as container:
        streams: list[Any] = [
            container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(number)
        ]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(streams[0].encode(frame))
    return file.getvalue()


def test_more_tracks_than_a_file_may_have(fort: Server) -> None:
    transcribed(send(fort, form(file_part(tracks(8)))))
    for number in (9, 100):
        refused(send(fort, form(file_part(tracks(number)))), 400, "more than 8 tracks")


# -- disk ----------------------------------------------------------------------------------------


def test_a_disk_that_takes_no_more(fort: Server) -> None:
    """The service and its decoding processes may write files of 600 kB only: no root is needed."""
    service = psutil.Process(fort.process.pid)
    limited = [service, *service.children(recursive=True)]
    for process in limited:
        process.rlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    try:
        full = send(fort, form(file_part(bytes(3_000_000))))
        refused(full, 507, "disk space")
        assert int(full.headers["Retry-After"]) > 0
        minute = np.tile(speech("en_short"), 10)
        short = encode(Media("ogg", "libopus", 48_000), (0, minute))
        assert len(short) < 500_000
        refused(send(fort, form(file_part(short))), 507, "disk space")
    finally:
        for process in limited:
            process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def test_what_sweeps_the_temporary_folder(fort: Server) -> None:
    """Some systems empty /tmp once a week, under the feet of whoever works in it."""
    for folder in (fort.folder / "tmp").iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    works(fort)
    [folder] = (fort.folder / "tmp").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700


# -- clients that vanish -------------------------------------------------------------------------


def test_clients_that_vanish_at_every_stage(fort: Server) -> None:
    """Upload, decoding, queue, recognition, answer: with a reset and not a word."""
    body = form(file_part(audio_of("en_mono").read_bytes()))
    for pause_s in (0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8):
        for sent in (body, body[: len(body) // 2]):
            connection = connect(fort)
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.sendall(request_head(len(body)) + sent)
            time.sleep(pause_s)
            connection.close()
    eventually(lambda: fort.get("/queue").json() == {"requests": []})


def test_a_client_that_reads_half_of_its_answer(fort: Server) -> None:
    body = form(file_part())
    with closing(connect(fort)) as connection:
        connection.sendall(request_head(len(body)) + body)
        assert connection.recv(20).startswith(b"HTTP/1.1 200")


def test_only_documented_answers_for_bytes_at_random(fort: Server) -> None:
    """Real forms with a few bytes changed, anywhere."""
    rng = np.random.default_rng(7)
    body = np.frombuffer(form(part("task", b"transcribe"), file_part()), np.uint8)
    for _ in range(12):
        broken = body.copy()
        where = rng.integers(0, min(len(body), rng.choice([300, len(body)])), 8)
        broken[where] = rng.integers(0, 256, 8)
        response = send(fort, broken.tobytes())
        assert response.status_code in DOCUMENTED - {503, 504, 507}, response.text


# -- the end -------------------------------------------------------------------------------------


def test_a_second_signal_ends_it_at_once(fort: Server) -> None:
    """Last, since nothing works after it: an upload that would be waited for is under way."""
    works(fort)
    with closing(connect(fort)) as connection:
        connection.sendall(request_head(1_000_000) + file_part()[:10_000])
        eventually(lambda: len(fort.temp_files()) == 1)
        fort.process.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping" in fort.log())
        fort.process.send_signal(signal.SIGTERM)
        assert fort.process.wait(BOUNDED_S) == 128 + signal.SIGTERM
    assert list((fort.folder / "tmp").iterdir()) == []
