"""Fetching from real servers: one that is allowed, and one at an address that is not."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from app.domain.errors import (
    Cancelled,
    DeadlineExceeded,
    DiskFull,
    FetchFailed,
    ServiceError,
    UnsupportedOption,
    UploadTooLarge,
    UrlUnusable,
)
from app.engine.work import Work
from app.storage import fetch as fetching
from app.storage.egress import EgressRules
from app.storage.fetch import PROGRAM, Fetched, Fetcher
from app.storage.fetch_http import name_of
from tests.support.ports import free_port
from tests.support.site import (
    Answer,
    Site,
    content,
    endless,
    hanging,
    own_certificate,
    page,
    playlist,
    redirect,
    reset,
    status,
)
from tests.support.truth import audio_of
from tests.support.waiting import eventually

SPEECH = audio_of("en_short").read_bytes()
LIMIT_BYTES = 3 << 20
HOUR_S = 3600.0
ALLOWED, REFUSED = "127.0.0.2", "127.0.0.1"
NOT_PUBLIC = r"^The URL leads to an address that is not public\.$"
AUDIO = content(SPEECH, "audio/flac")


class Sites:
    """An allowed server and a refused one on the same port, and what is fetched from the first."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.allowed, self.refused = Site(ALLOWED, port), Site(REFUSED, port)
        self.refused.answers = {"/a.flac": AUDIO, "/a.m3u8": playlist("/a.flac")}
        self.folder = folder
        self.content = b""  # of what was fetched last
        self.fetcher = Fetcher(EgressRules([f"{ALLOWED}/32"]), timeout_s=60)

    def serve(self, path: str, answer: Answer) -> str:
        self.allowed.answers[path] = answer
        return self.allowed.url + path

    def fetch(self, url: str, work: Work | None = None, fetcher: Fetcher | None = None) -> Fetched:
        work = work or Work("fetch", 120)
        path = self.folder / "recording"
        fetched = (fetcher or self.fetcher).fetch(url, path, work, LIMIT_BYTES, HOUR_S)
        self.content = path.read_bytes()
        path.unlink()
        return fetched

    def fails(self, url: str, kind: type[ServiceError], message: str) -> ServiceError:
        """The error, after which nothing is left."""
        with pytest.raises(kind, match=message) as caught:
            self.fetch(url)
        assert list(self.folder.iterdir()) == []
        return caught.value

    def check(self) -> None:
        """The next fetch works, and nothing ever reached the refused server."""
        fetched = self.fetch(self.serve("/good.flac", AUDIO))
        assert fetched == Fetched("good.flac", len(SPEECH))
        assert self.content == SPEECH
        assert self.refused.received == []
        assert list(self.folder.iterdir()) == []


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    sites = Sites(tmp_path_factory.mktemp("fetched"))
    with sites.allowed, sites.refused:
        yield sites
        sites.check()


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "fetch_worker" in " ".join(child.cmdline())
    ]


# -- what is fetched -------------------------------------------------------------------------------


def test_a_file_after_redirects(sites: Sites) -> None:
    disposition = "attachment; filename*=UTF-8''..%2F%C3%A4%0A%E2%80%AEb.flac"
    answer = content(SPEECH, "text/html", Content_Disposition=disposition)
    target = sites.serve("/files/a.flac", answer)
    for i in range(10):
        target = sites.serve(f"/r{i}", redirect(target))
    assert sites.fetch(target) == Fetched("äb.flac", len(SPEECH))
    sites.fails(sites.serve("/r10", redirect(target)), UrlUnusable, "more than 10 times")


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="../../etc/talk.flac"', "talk.flac"),
        ("attachment; filename*=klingon''a.flac", "a.flac"),
        ("inline", "of the path.flac"),
        ('attachment; filename=""', "of the path.flac"),
    ],
)
def test_names_of_files(disposition: str, name: str) -> None:
    request = httpx.Request("GET", "https://example.com/a/of%20the%20path.flac?name=b")
    response = httpx.Response(200, request=request, headers={"Content-Disposition": disposition})
    assert name_of(response) == name


def test_a_page(sites: Sites) -> None:
    sites.serve("/talk.flac", AUDIO)
    url = sites.serve("/page", page('<video src="/talk.flac"></video>', "A talk"))
    fetched = sites.fetch(url)
    assert fetched.file_name.startswith("A talk")
    assert fetched.file_name.endswith(".flac")
    assert sites.content == SPEECH


def test_a_playlist(sites: Sites) -> None:
    half = len(SPEECH) // 2
    sites.serve("/1.ts", content(SPEECH[:half], "video/mp2t"))
    sites.serve("/2.ts", content(SPEECH[half:], "video/mp2t"))
    sites.fetch(sites.serve("/good.m3u8", playlist("/1.ts", "2.ts")))
    assert sites.content == SPEECH


# -- where it must not go --------------------------------------------------------------------------


def test_a_redirect_to_a_private_address(sites: Sites) -> None:
    sites.fails(sites.serve("/r", redirect(f"{sites.refused.url}/a.flac")), UrlUnusable, NOT_PUBLIC)


def test_a_redirect_to_a_file(sites: Sites) -> None:
    sites.fails(
        sites.serve("/r", redirect("file:///etc/passwd")), UrlUnusable, "neither http nor https"
    )


def test_a_page_with_a_private_address(sites: Sites) -> None:
    url = sites.serve("/p", page(f'<video src="{sites.refused.url}/a.flac"></video>'))
    sites.fails(url, UrlUnusable, NOT_PUBLIC)


@pytest.mark.parametrize("host", [REFUSED, "localhost"])
def test_a_segment_at_a_private_address(sites: Sites, host: str) -> None:
    sites.serve("/1.ts", content(SPEECH, "video/mp2t"))
    port = sites.refused.host.rpartition(":")[2]
    segments = ("/1.ts", f"http://{host}:{port}/a.flac")
    sites.fails(sites.serve("/p.m3u8", playlist(*segments)), UrlUnusable, NOT_PUBLIC)


def test_a_file_of_this_machine_in_a_playlist(sites: Sites) -> None:
    sites.fails(sites.serve("/f.m3u8", playlist("file:///etc/passwd")), UrlUnusable, "No recording")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "http://127.0.0.1/a", "http://localhost/a", "http://169.254.169.254/",
        "http://0x7f000001/", "http://2130706433/", "http://0177.0.0.1/", "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
    ],
)  # fmt: skip
def test_a_private_address_at_once(sites: Sites, url: str) -> None:
    with pytest.raises(UnsupportedOption, match=r"^url: "):
        sites.fetch(url)


# A resolver that says something else each time: an allowed address, then a refused one.
REBINDING = f"""
import socket
look_up, answers = socket.getaddrinfo, ["{ALLOWED}", "{REFUSED}"]
def change(host, *rest, **more):
    if host == "rebinding.example":
        host = answers.pop(0) if len(answers) > 1 else answers[0]
    return look_up(host, *rest, **more)
socket.getaddrinfo = change
"""


def test_a_name_that_changes(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leads to the refused address when the redirect connects anew."""
    variant = PROGRAM.replace("; from", "; exec(" + repr(REBINDING) + "); from", 1)
    monkeypatch.setattr(fetching, "PROGRAM", variant)
    url = f"http://rebinding.example:{sites.allowed.host.rpartition(':')[2]}"
    sites.serve("/name", redirect(f"{url}/a.flac"))
    sites.fails(f"{url}/name", UrlUnusable, NOT_PUBLIC)
    assert len(sites.allowed.requests_of("/name")) == 1


# What code in the process could reach, were it taken over: tried after it confined itself.
PROBE = """
import os, socket, subprocess, sys, urllib.request
from app.storage import fetch_worker
parent, outside, port = {parent}, {outside!r}, {port}
def probe(url, target, gate):
    open(target, "wb").write(b"x")
    found = [name for name in os.environ if "SECRET" in name]
    def udp():
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port))
    attempts = dict(
        connect=lambda: socket.create_connection(("127.0.0.1", port), 5),
        name=lambda: socket.create_connection(("localhost", port), 5),
        mapped=lambda: socket.create_connection(("::ffff:127.0.0.1", port), 5),
        raw=lambda: socket.socket().connect(("127.1", port)),
        udp=udp,
        unix=lambda: socket.socket(socket.AF_UNIX),
        urllib=lambda: urllib.request.urlopen(f"http://127.0.0.1:{{port}}/a.flac"),
        program=lambda: subprocess.run(["/bin/true"]),
        shell=lambda: os.system("true") and sys.exit(),
        fork=os.fork,
        signal=lambda: os.kill(parent, 0),
        write=lambda: open(outside, "w"),
        remove=lambda: os.remove(outside + ".kept"),
        secret=lambda: open(outside + ".kept"),
        environment=lambda: open(f"/proc/{{parent}}/environ"),
        link=lambda: os.symlink("/etc/passwd", "link"),
        native=lambda: __import__("curl_cffi"),
    )
    for name, attempt in attempts.items():
        try:
            attempt()
            found.append(name)
        except (OSError, ImportError):
            pass
    return " ".join(found) or "nothing"
fetch_worker.fetch_file = probe
"""


def test_a_fetching_process_has_nothing_of_the_service(
    sites: Sites, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOME_SECRET", "x")
    (tmp_path / "out.kept").write_text("a secret")
    port = sites.refused.host.rpartition(":")[2]
    probe = PROBE.format(parent=os.getpid(), outside=str(tmp_path / "out"), port=port)
    variant = PROGRAM.replace("; from", "; exec(" + repr(probe) + "); from", 1)
    monkeypatch.setattr(fetching, "PROGRAM", variant)
    assert sites.fetch(sites.allowed.url).file_name == "nothing"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.kept"]
    assert sites.refused.received == []


# -- limits ------------------------------------------------------------------------------------


def test_too_large(sites: Sites) -> None:
    large = "larger than the limit of 3 MB"
    announced = content(SPEECH, "audio/flac", length=LIMIT_BYTES + 1)
    sites.fails(sites.serve("/announced", announced), UploadTooLarge, large)
    sites.fails(sites.serve("/endless", endless()), UploadTooLarge, large)
    sites.serve("/1.ts", content(bytes(1 << 20), "video/mp2t"))
    many = playlist(*["/1.ts"] * 1000, segment_s=1)
    sites.fails(sites.serve("/many.m3u8", many), UploadTooLarge, large)
    assert len(sites.allowed.requests_of("/1.ts")) < 10, "it stopped at the limit"


def test_too_long(sites: Sites) -> None:
    """Known before the download."""
    url = sites.serve("/long.m3u8", playlist(*["/long.ts"] * 1000))
    sites.fails(url, UploadTooLarge, "longer than 3600 seconds")
    assert sites.allowed.requests_of("/long.ts") == []


def test_several_recordings(sites: Sites) -> None:
    sites.serve("/1.flac", AUDIO)
    videos = '<video src="/1.flac"></video><video src="/2.flac"></video>'
    sites.fails(sites.serve("/several", page(videos)), UrlUnusable, "several recordings")


def test_no_room(sites: Sites) -> None:
    fetcher = Fetcher(EgressRules([ALLOWED]), 60, min_free_bytes=1 << 60)
    with pytest.raises(DiskFull):
        sites.fetch(sites.serve("/good.flac", AUDIO), fetcher=fetcher)
    assert list(sites.folder.iterdir()) == []


# -- faults ------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Answer, type[ServiceError], str]] = {
    "missing": (status(404), UrlUnusable, "nothing at the URL: its server answered 404 Not Found"),
    "gone": (status(410), UrlUnusable, "410 Gone"),
    "secret": (status(403), UrlUnusable, "refuses access: it answered 403 Forbidden"),
    "broken": (status(500), FetchFailed, "500 Internal Server Error; try again"),
    "busy": (status(503, Retry_After="120"), FetchFailed, "503 Service Unavailable; try again"),
    "odd": (status(299), UrlUnusable, "answered 299"),
    "empty": (content(b"", "audio/flac"), UrlUnusable, "empty"),
    "reset": (reset(SPEECH[:1000]), FetchFailed, "connection to the URL's server failed"),
    "short": (content(SPEECH, "audio/flac", length=2 << 20), FetchFailed, "connection"),
}


def test_faults_of_the_server(sites: Sites) -> None:
    def fault(name: str) -> ServiceError:
        path = sites.folder.with_name(f"fault-{name}")
        path.mkdir()
        answer, kind, message = FAULTS[name]
        url = sites.serve(f"/{name}", answer)
        with pytest.raises(kind, match=message) as caught:
            sites.fetcher.fetch(url, path / "x", Work(name, 120), LIMIT_BYTES, HOUR_S)
        assert list(path.iterdir()) == []
        return caught.value

    with ThreadPoolExecutor(4) as threads:
        errors = dict(zip(FAULTS, threads.map(fault, FAULTS), strict=True))
    assert errors["busy"].retry_after_s == 120
    assert all(error.is_permanent == isinstance(error, UrlUnusable) for error in errors.values())


def test_nobody_there(sites: Sites) -> None:
    url = f"http://{ALLOWED}:{free_port()}/"
    sites.fails(url, FetchFailed, "connection to the URL's server failed")


def test_certificates(sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = own_certificate(tmp_path, ALLOWED)
    with Site(ALLOWED, free_port(), certificate) as site:
        site.answers["/a.flac"] = AUDIO
        sites.fails(f"{site.url}/a.flac", UrlUnusable, "certificate of the URL's server")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert sites.fetch(f"{site.url}/a.flac").num_bytes == len(SPEECH)


def test_too_slow(sites: Sites) -> None:
    fetcher = Fetcher(EgressRules([ALLOWED]), 3)
    url = sites.serve("/slow", hanging(SPEECH[:1000]))
    with pytest.raises(FetchFailed, match=r"took longer than 3 seconds\.$"):
        sites.fetch(url, fetcher=fetcher)
    with pytest.raises(DeadlineExceeded):
        sites.fetch(url, Work("late", 1))
    assert children() == []
    assert list(sites.folder.iterdir()) == []


def under_way(sites: Sites, path: str, act: threading.Event, work: Work) -> BaseException:
    """The error of a fetch, during which `act` is set once data arrives."""
    url = sites.serve(path, hanging(SPEECH[:100_000]))

    def watch() -> None:
        eventually(lambda: any(sites.folder.rglob("fetched")))
        act.set()

    threading.Thread(target=watch, daemon=True).start()
    with pytest.raises(ServiceError) as caught:
        sites.fetch(url, work)
    assert children() == []
    assert list(sites.folder.iterdir()) == []
    return caught.value


def test_cancelled_while_it_downloads(sites: Sites) -> None:
    work, act = Work("cancelled", 120), threading.Event()
    threading.Thread(target=lambda: (act.wait(60), work.cancel()), daemon=True).start()
    assert isinstance(under_way(sites, "/cancelled", act, work), Cancelled)


def test_killed_while_it_downloads(sites: Sites) -> None:
    act = threading.Event()

    def kill() -> None:
        act.wait(60)
        for child in children():
            child.send_signal(signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    error = under_way(sites, "/killed", act, Work("killed", 120))
    assert isinstance(error, FetchFailed)
    assert error.message == "Fetching the URL was interrupted; try again."


SERVICE = """
import sys
from pathlib import Path
from app.engine.work import Work
from app.storage.egress import EgressRules
from app.storage.fetch import Fetcher
url, address, folder = sys.argv[1:]
Fetcher(EgressRules([address]), 600).fetch(url, Path(folder) / "x", Work("x", 600), 1 << 20, 60)
"""


def test_no_process_survives_a_service_that_is_killed(sites: Sites, tmp_path: Path) -> None:
    url = sites.serve("/survives", hanging(SPEECH[:1000]))
    command = [sys.executable, "-c", SERVICE, url, ALLOWED, str(tmp_path)]
    service = psutil.Popen(command)
    try:
        eventually(lambda: sites.allowed.requests_of("/survives"))
        left = service.children()
    finally:
        service.kill()
        service.wait()
    assert len(left) == 1
    assert psutil.wait_procs(left, timeout=60)[1] == []


def test_without_the_extra(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = PROGRAM.replace("; from", "; sys.modules['yt_dlp'] = None; from", 1)
    monkeypatch.setattr(fetching, "PROGRAM", variant)
    sites.fails(sites.serve("/p", page("")), UrlUnusable, "fetches files only")
