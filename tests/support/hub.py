"""A model hub on this machine: serves folders as repositories, or fails as hubs do."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.malice import mirror
from tests.support.paths import DEMO

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """`repositories`: folders by owner/name; `files`: what lies beside them, by path.

    `mode`: "serve"; "hang" (accepts and never answers); "drip" (a byte each second, from the status
    line on); "drip body"; "stall" (half of each body, then nothing); "break" (half of each body,
    then the end); "slow" (steady, 400 kB/s); or a status that all requests get.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.repositories: dict[str, Path] = {}
        self.files: dict[str, bytes] = {}
        self.mode: str | int = "serve"
        self.requests: Counter[str] = Counter()
        self.closing = threading.Event()
        self._address = ("127.0.0.1", port)
        self._server: _Server | None = None

    def __enter__(self) -> Hub:
        hub = self

        class Handler(_Handler):
            served_by = hub

        self.closing.clear()
        self._server = _Server(self._address, Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """From here on connections are refused."""
        self.closing.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def content(self, path: str) -> bytes | None:
        for name, folder in self.repositories.items():
            if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
                files = sorted(p for p in folder.rglob("*") if p.is_file())
                listed = [{"rfilename": p.relative_to(folder).as_posix()} for p in files]
                return json.dumps({"id": name, "sha": COMMIT, "siblings": listed}).encode()
            for revision in ("main", COMMIT):
                start = f"/{name}/resolve/{revision}/"
                file = folder / path.removeprefix(start)
                if path.startswith(start) and file.is_file():
                    return file.read_bytes()
        return self.files.get(path)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    served_by: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        hub = self.served_by
        hub.requests[f"{self.command} {self.path}"] += 1
        mode = hub.mode
        if mode == "hang":
            hub.closing.wait()
            return
        if mode == "drip":
            self._drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 1000)
            return
        body = hub.content(self.path.partition("?")[0])
        status = mode if isinstance(mode, int) else 200 if body is not None else 404
        body = body if status == 200 and body is not None else b"{}"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self._send(body, mode)

    def _send(self, body: bytes, mode: Any) -> None:
        if mode == "drip body":
            self._drip(body)
        elif mode in ("stall", "break") and len(body) > 10_000:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if mode == "stall":
                self.served_by.closing.wait()
            self.close_connection = True
        elif mode == "slow":
            for start in range(0, len(body), 40_000):
                self.wfile.write(body[start : start + 40_000])
                time.sleep(0.1)
        else:
            self.wfile.write(body)

    def _drip(self, data: bytes) -> None:
        self.close_connection = True
        for byte in data:
            try:
                self.wfile.write(bytes([byte]))
            except OSError:  # nobody listens any more
                return
            if self.served_by.closing.wait(1):
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


BUNDLE = "/torchaudio/wav2vec2_fairseq_base_ls960_asr_ls960.pth"


def fill(hub: Hub, folder: Path) -> Hub:
    """The demo's models as repositories; the diarizer with the segmentation that whisperx has."""
    diarization = mirror(DEMO / "diarization", folder / "diarization")
    package = find_spec("whisperx")
    assert package is not None
    assert package.origin is not None
    bundled = Path(package.origin).parent / "assets" / "pytorch_model.bin"
    (diarization / "segmentation").mkdir()
    (diarization / "segmentation" / "pytorch_model.bin").symlink_to(bundled)
    hub.repositories = {
        "owner/align": DEMO / "align",
        "owner/whisper": DEMO / "whisper",
        "owner/diarization": diarization,
    }
    hub.files = {BUNDLE: bytes(200_000)}
    return hub
