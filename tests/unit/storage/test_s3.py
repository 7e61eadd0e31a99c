"""Objects in buckets, with a real server that checks signatures."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.domain.errors import (
    Cancelled,
    ConfigurationError,
    DiskFull,
    ObjectMissing,
    ServiceError,
    StorageRefused,
    StorageUnavailable,
    UploadTooLarge,
)
from app.storage import s3 as module
from app.storage.s3 import S3, Room, S3Access, S3Objects
from app.storage.s3_errors import error_of
from tests.support.ports import free_port
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, running_s3

PART_BYTES = 5 << 20  # no server takes smaller ones
BIG = os.urandom(1 << 20) * 12
ROOMY = Room(1 << 40)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as store:
        (store.bucket("media") / "big").write_bytes(BIG)
        (store.bucket("media") / "talk ä#?.mp3").write_bytes(b"small")
        yield store


def access(store: S3Server, secret: str = SECRET_KEY, key: str = ACCESS_KEY) -> S3Access:
    return S3Access(store.url, "", key, secret)


@pytest.fixture(scope="module")
def s3(store: S3Server) -> Iterator[S3]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_BYTES", PART_BYTES)
        yield S3(access(store))


def never() -> None:
    """Nobody cancels."""


def test_files_go_and_come_back(store: S3Server, s3: S3, tmp_path: Path) -> None:
    for content, name in ((b"", "empty"), (b"small", "a/b"), (BIG, "c")):
        source, back = tmp_path / "source", tmp_path / f"back {len(content)}"
        source.write_bytes(content)
        s3.upload(source, "media", f"sent/{name}", never)
        assert (store.root / "media" / "sent" / name).read_bytes() == content
        s3.download("media", f"sent/{name}", back, ROOMY, never)
        assert back.read_bytes() == content
        assert back.stat().st_mode & 0o777 == 0o600
        s3.delete("media", f"sent/{name}")
        s3.delete("media", f"sent/{name}")  # is no fault
        with pytest.raises(ObjectMissing):
            s3.download("media", f"sent/{name}", tmp_path / "gone", ROOMY, never)
    s3.download("media", "talk ä#?.mp3", tmp_path / "talk", ROOMY, never)
    assert (tmp_path / "talk").read_bytes() == b"small"


def test_uploads_under_names_of_ours(store: S3Server, s3: S3, tmp_path: Path) -> None:
    objects = S3Objects(s3, "media", "uploads/", min_free_bytes=0)
    given = tmp_path / "given"
    given.write_bytes(b"sound")
    objects.put(given, "0123", never)
    assert not given.exists()  # moved
    assert (store.root / "media" / "uploads" / "0123").read_bytes() == b"sound"
    assert objects.get("0123", tmp_path / "got", never).read_bytes() == b"sound"
    assert objects.read("0123", 1, 3) == b"ou"
    objects.delete("0123")
    with pytest.raises(ObjectMissing):
        objects.read("0123", 0, 1)
    assert not (store.root / "media" / "uploads" / "0123").exists()


# -- what goes wrong -----------------------------------------------------------------------------


def fails(
    kind: type[ServiceError], s3: S3, tmp_path: Path, bucket: str = "media", key: str = "big"
) -> str:
    """The sentence of a download that fails, and of a result that cannot be written."""
    path = tmp_path / "download"
    with pytest.raises(kind) as failure:
        s3.download(bucket, key, path, ROOMY, never)
    assert not path.exists()
    sentence = failure.value.message
    for secret in (ACCESS_KEY, SECRET_KEY, "127.0.0.1", "http"):
        assert secret not in sentence
    return sentence


def test_what_another_try_would_not_mend(store: S3Server, s3: S3, tmp_path: Path) -> None:
    assert "no such object" in fails(ObjectMissing, s3, tmp_path, key="nothing")
    assert "no such bucket" in fails(ObjectMissing, s3, tmp_path, bucket="nowhere")
    assert "not valid" in fails(StorageRefused, s3, tmp_path, bucket="no bucket!")
    assert "denies" in fails(StorageRefused, S3(access(store, "wrong")), tmp_path)
    assert "denies" in fails(StorageRefused, S3(access(store, key="SOMEBODY")), tmp_path)
    with pytest.raises(StorageRefused, match="access key"):
        S3(access(store, "wrong")).write(b"x", "media", "results/x", "text/plain")
    with pytest.raises(ObjectMissing, match="no such bucket"):
        s3.write(b"x", "nowhere", "results/x", "text/plain")
    assert not (store.root / "media" / "results").exists()
    for error in (ObjectMissing, StorageRefused, UploadTooLarge):
        assert error.is_permanent
    assert not StorageUnavailable.is_permanent
    s3.download("media", "big", tmp_path / "next", ROOMY, never)


def test_what_the_server_says_is_not_repeated() -> None:
    class Told(Exception):
        def __init__(self, code: str, status: int) -> None:
            self.response = {
                "Error": {"Code": code, "Message": "secret"},
                "ResponseMetadata": {"HTTPStatusCode": status},
            }

    for code, status, kind in [
        ("AccessDenied", 403, StorageRefused),
        ("InternalError", 500, StorageUnavailable),
        ("ServiceUnavailable", 503, StorageUnavailable),
        ("SlowDown", 503, StorageUnavailable),
        ("TooManyRequests", 429, StorageUnavailable),
        ("ExpiredToken", 400, StorageRefused),
        ("InvalidArgument", 400, StorageRefused),
        ("<script>", 400, StorageRefused),
        ("PermanentRedirect", 301, StorageRefused),
    ]:
        error = error_of(Told(code, status))
        assert type(error) is kind
        assert "secret" not in error.message
        assert "script" not in error.message


def test_too_large(s3: S3, tmp_path: Path) -> None:
    with pytest.raises(UploadTooLarge, match="larger than 1 MB"):
        s3.download("media", "big", tmp_path / "x", Room(1 << 20), never)
    with pytest.raises(DiskFull):
        s3.download("media", "big", tmp_path / "x", Room(1 << 40, 1 << 60), never)
    assert list(tmp_path.iterdir()) == []


class Fake(BaseHTTPRequestHandler):
    """A server that does what real ones rarely do."""

    num_stated = 10
    room_mb = 50

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.num_stated))
        self.send_header("ETag", '"one"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not among the output of the tests."""


class Liar(Fake):
    """Its objects are larger than it says."""

    room_mb = 2

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()  # up to the end of the connection
        with suppress(ConnectionError):
            for _ in range(16):
                self.wfile.write(b"x" * (1 << 20))


class BreaksOff(Fake):
    """It never sends all of an object."""

    num_stated = 1000

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 500)


class Changes(Fake):
    """Its objects are replaced before they are read."""

    num_stated = 40 << 20

    def do_GET(self) -> None:
        body = b"<Error><Code>PreconditionFailed</Code></Error>"
        self.send_response(412)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize(
    ("behavior", "kind", "says"),
    [
        (Liar, UploadTooLarge, "larger than 2 MB"),
        (BreaksOff, StorageUnavailable, "broke off"),
        (Changes, StorageUnavailable, "replaced while it was read"),
    ],
)
def test_odd_servers(
    tmp_path: Path, behavior: type[Fake], kind: type[ServiceError], says: str
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", free_port()), behavior) as fake:
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        s3 = S3(S3Access(f"http://127.0.0.1:{fake.server_port}", "", "a", "b"))
        with pytest.raises(kind, match=says):
            s3.download("media", "x", tmp_path / "x", Room(behavior.room_mb << 20), never)
        fake.shutdown()
    assert list(tmp_path.iterdir()) == []


class CancelledOnceBegun:
    """`num_calls`: that are let through first, such as the one before the transfer."""

    def __init__(self, num_calls: int) -> None:
        self.left = num_calls

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cancelled("Enough.")


def test_cancelled_on_the_way(store: S3Server, s3: S3, tmp_path: Path) -> None:
    with pytest.raises(Cancelled, match="Enough"):
        s3.download("media", "big", tmp_path / "x", ROOMY, CancelledOnceBegun(2))
    assert list(tmp_path.iterdir()) == []
    source = tmp_path / "source"
    source.write_bytes(BIG)
    with pytest.raises(Cancelled, match="Enough"):
        s3.upload(source, "media", "cancelled", CancelledOnceBegun(1))
    assert not (store.root / "media" / "cancelled").exists()
    assert source.exists()


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """What a disk does that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_disk_is_full_on_the_way(s3: S3, tmp_path: Path) -> None:
    with largest_file(4 << 20), pytest.raises(DiskFull):
        s3.download("media", "big", tmp_path / "x", ROOMY, never)
    assert list(tmp_path.iterdir()) == []
    s3.download("media", "big", tmp_path / "next", ROOMY, never)


def test_the_server_dies_on_the_way(store: S3Server, s3: S3, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BIG)
    died = threading.Event()

    def die() -> None:
        if not died.is_set():
            died.set()
            store.kill()

    downloads = tmp_path / "downloads"
    downloads.mkdir()
    calls = iter((never,))  # lets the first one through: the transfer has not begun
    with pytest.raises(StorageUnavailable):
        s3.download("media", "big", downloads / "x", ROOMY, lambda: next(calls, die)())
    assert died.is_set()
    assert list(downloads.iterdir()) == []
    store.start()
    s3.download("media", "big", downloads / "next", ROOMY, never)

    died.clear()
    with pytest.raises(StorageUnavailable):
        s3.upload(source, "media", "uploaded", die)
    store.start()
    assert not (store.root / "media" / "uploaded").exists()
    s3.upload(source, "media", "uploaded", never)
    assert (store.root / "media" / "uploaded").read_bytes() == BIG


def test_a_server_that_answers_nothing(
    store: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 0.2)
    monkeypatch.setattr(module, "NUM_TRIES", 1)
    s3 = S3(access(store))
    store.freeze()
    try:
        assert "cannot be reached" in fails(StorageUnavailable, s3, tmp_path)
    finally:
        store.go_on()


# -- keys ----------------------------------------------------------------------------------------


def test_without_a_key_that_of_the_machine_counts(
    store: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    assert "no access key" in fails(StorageRefused, S3(S3Access(store.url)), tmp_path)
    credentials.write_text(
        f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    S3(S3Access(store.url)).download("media", "big", tmp_path / "x", ROOMY, never)


def test_settings_that_cannot_work(store: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="set both"):
        S3(S3Access(store.url, access_key="a"))
    with pytest.raises(ConfigurationError, match="S3: "):
        S3(S3Access("http://[", access_key="a", secret_key="b"))
    monkeypatch.setitem(sys.modules, "boto3.s3.transfer", None)
    with pytest.raises(ConfigurationError, match=r"whisperx-asr-service\[s3\]"):
        S3(access(store))
