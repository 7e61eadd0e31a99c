"""whisperx-asr: serve, worker, demo, download, settings, health."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from app import __version__
from app.config.environment import prepare_ray, subprocess_environment
from app.config.example import write_example
from app.config.markdown import write_markdown
from app.config.replaced import replaced_variables
from app.config.server import ServerSettings
from app.config.settings import DEMO_DIR, Settings, load_settings
from app.domain.errors import ConfigurationError, ServiceError
from app.models.host_memory import keep_freed_memory
from app.serving.sockets import address_of

DEMO_START_TIMEOUT_S = 180.0
EXIT_CONFIGURATION = 2
# how to reach a service that listens on all addresses
LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except ConfigurationError as error:
        print(f"whisperx-asr: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="whisperx-asr",
        description="Serves aligned, diarized transcripts over HTTP.",
        epilog="Settings come from the environment and .env: `whisperx-asr settings` lists them.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="start the service")
    _add_address(serve)
    serve.add_argument(
        "--ray", action="store_true", help="as several processes with Ray (extra `ray`)"
    )
    serve.set_defaults(run=_serve, sqs=False)

    worker = commands.add_parser(
        "worker",
        help="start a worker: it runs jobs of the database and, with --sqs, those of a queue",
        description="Like serve, so that /health, /ready and /metrics can be asked as usual.",
    )
    worker.add_argument(
        "--sqs", action="store_true", help="take messages of the queue AWS_SQS_ASR_QUEUE_URL"
    )
    _add_address(worker)
    worker.set_defaults(run=_serve, ray=False)

    demo = commands.add_parser(
        "demo", help="start the service with the embedded demo models and transcribe a file"
    )
    demo.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=DEMO_DIR / "conversation.flac",
        help="file to transcribe (default: the bundled conversation; the demo models know only "
        "about 200 words)",
    )
    demo.set_defaults(run=_demo)

    download = commands.add_parser(
        "download", help="download models in advance, for machines without internet"
    )
    download.add_argument("models", nargs="*", metavar="MODEL", help="e.g. large-v3 turbo")
    download.add_argument(
        "--align",
        default="",
        metavar="LANGUAGES",
        help="also alignment models for these languages, e.g. en,es",
    )
    download.add_argument(
        "--diarization", action="store_true", help="also the diarization model (needs HF_TOKEN)"
    )
    download.set_defaults(run=_download)

    settings = commands.add_parser("settings", help="print every setting with its default")
    settings.add_argument(
        "--markdown", action="store_true", help="as the page docs/settings.md (default: as .env)"
    )
    settings.set_defaults(run=_settings)

    health = commands.add_parser("health", help="check a running service (exit code 0: healthy)")
    health.add_argument("--url", help="address of the service (default: PORT on this machine)")
    health.set_defaults(run=_health)
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (HOST, default 0.0.0.0)")
    parser.add_argument("--port", type=int, help="port to listen on (PORT, default 9000)")


# -- serve ---------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    keep_freed_memory()
    given = {"host": options.host, "port": options.port}
    settings = load_settings({name: v for name, v in given.items() if v is not None})
    if options.ray:
        return _serve_on_ray(settings)
    # Imported here because the server's libraries are slow to import, and `--help` should be fast.
    from app.observability import logs

    logs.configure(settings.log_format, settings.log_level)
    if unused := " ".join(replaced_variables()):
        logging.getLogger("app.config").warning("Variables of another service: %s", unused)
    # Until the server handles it: process 1 of a container ignores signals without a handler.
    signal.signal(signal.SIGTERM, _end_at_once)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
        signal.signal(signal.SIGHUP, _end_at_once)
    # at debug level it logs the headers of WebSockets, including keys
    logging.getLogger("uvicorn.error").setLevel(max(logging.INFO, logging.root.level))
    from app.main import create_app
    from app.service.build import build_service
    from app.serving.server import serve
    from app.serving.sockets import open_sockets

    sockets = open_sockets(settings)
    service = build_service(settings)
    app = create_app(service, options.sqs)
    gc.freeze()  # libraries stay: no collection looks through their million objects again
    code = serve(service, app, sockets)
    # the interpreter would wait for threads that are inside a model
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _serve_on_ray(settings: Settings) -> int:
    from app.observability import logs

    logs.configure(settings.log_format, settings.log_level)
    prepare_ray()
    try:
        from app.serving.ray import serve_on_ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ConfigurationError(
            "--ray: Ray is not installed: pip install 'whisperx-asr-service[ray]'"
        ) from None
    return serve_on_ray(settings)


def _end_at_once(sig: int, frame: object) -> None:
    # not by an exception: a library that is being imported may catch everything
    os._exit(0)


# -- demo ----------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    if not options.file.is_file():
        raise ConfigurationError(f"{options.file} is not a file.")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="whisperx-asr-demo-") as folder:
        log_path = Path(folder) / "log"
        environment = subprocess_environment(
            ASR_MODEL="demo",
            PRELOAD_MODEL="demo",
            DIARIZATION_MODEL="demo",
            HF_HUB_OFFLINE="1",
            API_KEYS="",
            API_KEYS_FILE="",
            RATE_LIMIT_AUDIO_MINUTES_PER_HOUR="",
            CACHE_DIR=folder,
            TEMP_DIR=f"{folder}/tmp",
            DATA_DIR=f"{folder}/data",
            SHUTDOWN_DRAIN_SECONDS="0",
        )
        command = [sys.executable, "-m", "app.cli", "serve", "--host", "127.0.0.1"]
        print("Starting the service with the embedded demo models ...", flush=True)
        with log_path.open("w") as log:
            # in its own folder, so that the caller's .env is not read
            server = subprocess.Popen(
                [*command, "--port", str(port)], cwd=folder, env=environment,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                _wait_until_ready(url, server)
                started = time.monotonic()
                body = _post(url, options.file)
                _print_transcript(body, time.monotonic() - started)
            except ConfigurationError:
                print(log_path.read_text(), file=sys.stderr)
                raise
            finally:
                server.terminate()
                server.wait()
    print("\nTo use the service run `make serve` and open")
    print("http://localhost:9000/docs")
    return 0


def free_port() -> int:
    """A free port on the loopback address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    import httpx

    deadline = time.monotonic() + DEMO_START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ConfigurationError("The service failed to start:")
        try:
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise ConfigurationError("The service did not become ready:")


def _post(url: str, path: Path) -> dict[str, Any]:
    import httpx

    print(f"POST {url}/asr  {path.name}", flush=True)
    with path.open("rb") as file:
        response = httpx.post(f"{url}/asr", files={"audio_file": file}, timeout=600)
    if response.status_code != 200:
        raise ConfigurationError(f"The service answered {response.status_code}: {response.text}")
    body: dict[str, Any] = response.json()
    return body


def _print_transcript(body: dict[str, Any], took_s: float) -> None:
    print()
    for segment in body["segments"]:
        start, end = (_clock(segment[edge]) for edge in ("start", "end"))
        speaker = segment.get("speaker", "")
        print(f"{start} - {end}  {speaker:10}  {segment['text'].strip()}")
    duration_s = body["duration"]
    print(
        f"\n{duration_s:.1f} s of audio in {took_s:.1f} s, language {body['language']}, "
        f"{len(body['word_segments'])} words, {len(body.get('speakers', []))} speakers"
    )
    for warning in body.get("warnings", []):
        print(f"warning: {warning}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes):02d}:{rest:05.2f}"


# -- download, settings, health -----------------------------------------------------------------


def _download(options: argparse.Namespace) -> int:
    settings = load_settings()
    from app.service.build import build_service, close_service
    from app.service.warmup import download_models

    languages = [code for code in options.align.replace(",", " ").split() if code]
    if not (options.models or languages or options.diarization):
        raise ConfigurationError("Nothing to download: give a model, --align or --diarization.")
    service = build_service(settings)
    try:
        for line in download_models(service, options.models, languages, options.diarization):
            print(line, flush=True)
    except ServiceError as error:
        print(f"whisperx-asr: {error}", file=sys.stderr)
        return 1
    finally:
        close_service(service)
    return 0


def _settings(options: argparse.Namespace) -> int:
    print(write_markdown() if options.markdown else write_example(), end="")
    return 0


def _health(options: argparse.Namespace) -> int:
    import httpx

    url = options.url or _own_url(load_settings())
    try:
        response = httpx.get(f"{url}/health", timeout=5)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        print(f"whisperx-asr: {url} does not answer: {error}", file=sys.stderr)
        return 1
    print(response.text)
    return 0 if response.status_code == 200 else 1


def _own_url(settings: ServerSettings) -> str:
    host = LOOPBACKS.get(settings.host, settings.host)
    return f"http://{address_of(host, settings.port)}"


if __name__ == "__main__":
    sys.exit(main())
