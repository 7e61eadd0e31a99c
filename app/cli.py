"""whisperx-asr: serve, worker, demo, download, settings, health."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from app import __version__
from app.commands import demo, download, health, serve
from app.config.example import write_example
from app.config.markdown import write_markdown
from app.config.settings import DEMO_DIR
from app.domain.errors import ConfigurationError

EXIT_CONFIGURATION = 2


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

    serve_parser = commands.add_parser("serve", help="start the service")
    _add_address(serve_parser)
    serve_parser.add_argument(
        "--ray", action="store_true", help="as several processes with Ray (extra `ray`)"
    )
    serve_parser.set_defaults(run=serve.run, sqs=False)

    worker_parser = commands.add_parser(
        "worker",
        help="start a worker: it runs jobs of the database and, with --sqs, those of a queue",
        description="Like serve, so that /health, /ready and /metrics can be asked as usual.",
    )
    worker_parser.add_argument(
        "--sqs", action="store_true", help="take messages of the queue AWS_SQS_ASR_QUEUE_URL"
    )
    _add_address(worker_parser)
    worker_parser.set_defaults(run=serve.run, ray=False)

    demo_parser = commands.add_parser(
        "demo", help="start the service with the embedded demo models and transcribe a file"
    )
    demo_parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=DEMO_DIR / "conversation.flac",
        help="file to transcribe (default: the bundled conversation; the demo models know only "
        "about 200 words)",
    )
    demo_parser.set_defaults(run=demo.run)

    download_parser = commands.add_parser(
        "download", help="download models in advance, for machines without internet"
    )
    download_parser.add_argument("models", nargs="*", metavar="MODEL", help="e.g. large-v3 turbo")
    download_parser.add_argument(
        "--align",
        default="",
        metavar="LANGUAGES",
        help="also alignment models for these languages, e.g. en,es",
    )
    download_parser.add_argument(
        "--diarization", action="store_true", help="also the diarization model (needs HF_TOKEN)"
    )
    download_parser.set_defaults(run=download.run)

    settings_parser = commands.add_parser("settings", help="print every setting with its default")
    settings_parser.add_argument(
        "--markdown", action="store_true", help="as the page docs/settings.md (default: as .env)"
    )
    settings_parser.set_defaults(run=_settings)

    health_parser = commands.add_parser(
        "health", help="check a running service (exit code 0: healthy)"
    )
    health_parser.add_argument(
        "--url", help="address of the service (default: PORT on this machine)"
    )
    health_parser.set_defaults(run=health.run)
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (HOST, default 0.0.0.0)")
    parser.add_argument("--port", type=int, help="port to listen on (PORT, default 9000)")


def _settings(options: argparse.Namespace) -> int:
    print(write_markdown() if options.markdown else write_example(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
