"""The format of log lines, and the one line for each request.

All output takes the same way: our own lines, those of the libraries and of the server, Python's
warnings and uncaught exceptions. Text from a client cannot begin a line of its own.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from app.observability.record import RequestRecord
from app.observability.unblocked import stream_handler

log = logging.getLogger(__name__)

MAX_PATH = 200  # characters of a path that are logged
PROBES = frozenset({"/health", "/ready", "/metrics"})

# Libraries whose messages no user can act on.
CHATTY = (
    "huggingface_hub",
    "lightning",
    "lightning.pytorch.utilities.migration",  # importing it resets the level of those above
    "pytorch_lightning",
    "speechbrain",
    "whisperx",
)
POINTLESS = (
    "torchcodec",
    "TensorFloat-32",
    "upgraded your loaded checkpoint",
    "degrees of freedom",
    "Mismatch between frames",
)


def configure(log_format: str, level: str, replica: str = "") -> None:
    """Log to stderr from `level` on; `log_format` is console or json. `replica`: the name of this
    process among others of the same service, for each line.

    Replaces `sys.stdout` for the whole process: what is printed becomes log lines.
    """
    handler = stream_handler(sys.stderr)
    handler.setFormatter(_formatter(log_format, sys.stderr, replica))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each part at its import
    sys.stdout = _Printed()
    warnings.showwarning = _log_warning
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_dead_thread


class _Printed(io.TextIOBase):
    """Replaces `sys.stdout`: each print becomes a line of the logger `stdout`.

    Some libraries report problems with `print`. Without this their text would stand unformatted
    between JSON lines. Only `configure` installs it, so commands that print are not affected.
    """

    def write(self, text: str) -> int:
        if text.strip():
            logging.getLogger("stdout").info("%s", text.strip())
        return len(text)


def _formatter(log_format: str, stream: TextIO, replica: str) -> logging.Formatter:
    def name_replica(logger: Any, name: str, event: EventDict) -> EventDict:
        event.pop("_ray_timestamp_ns", None)  # Ray puts it into each record
        return {**event, "replica": replica} if replica else event

    before: list[Processor] = [
        name_replica,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    render: list[Processor]
    if log_format == "json":
        render = [
            structlog.processors.JSONRenderer()
        ]  # writes only ASCII and escapes everything else
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,
        )
        render = [_escape_controls, renderer]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _drop_colors,
            *render,
        ],
    )


def _drop_colors(logger: Any, name: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)  # uvicorn's message again, with colors
    return event


def _escape_controls(logger: Any, name: str, event: EventDict) -> EventDict:
    """Escape control characters. A traceback is indented, so none of it looks like a log line."""
    for key, value in event.items():
        if not isinstance(value, str):
            continue
        if key in ("exception", "stack"):
            event[key] = "\n".join(f"    {escape(line)}" for line in value.splitlines())
        else:
            event[key] = escape(value)
    return event


def escape(text: str) -> str:
    """The text with line breaks, control and formatting characters written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    where = {"category": category.__name__, "source": f"{filename}:{lineno}"}
    logging.getLogger("py.warnings").warning("%s", message, extra=where)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    log.critical("the process ends", exc_info=(kind, error, traceback))


def _log_dead_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is None or issubclass(failure.exc_type, SystemExit):
        return
    log.error(
        "a thread ended",
        exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback),
        extra={"thread_name": failure.thread.name if failure.thread else ""},
    )


def quiet_libraries() -> None:
    """Silence what no user can act on, and route the rest through the root logger.

    Libraries set levels and handlers when they are imported. Call this again after late imports.
    """
    for text in POINTLESS:
        warnings.filterwarnings("ignore", message=f"(?s).*{text}")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and logger.handlers:
            logger.handlers = []
            logger.propagate = True


def log_request(record: RequestRecord) -> None:
    """Log the line of a finished request. Probes are logged at debug level only."""
    level = logging.INFO
    if record.endpoint in PROBES:
        level = logging.DEBUG
    elif record.status >= 500:
        level = logging.WARNING  # the error has its own line
    logging.getLogger("app.request").log(level, "request", extra=_fields(record))


def _fields(record: RequestRecord) -> MutableMapping[str, Any]:
    known = {
        "request_id": record.request_id,
        "client_name": record.client_name,
        "address": record.address,
        "method": record.method,
        "path": record.path[:MAX_PATH],
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error,
        "dialect": record.dialect,
        "model": record.model,
        "seconds": round(record.seconds, 3),
        "upload_bytes": record.upload_bytes,
        "audio_seconds": _rounded(record.audio_s),
        "rtf": _rounded(record.rtf),
        "stages": {str(name): round(s, 3) for name, s in record.stages.seconds().items()},
        "joined": record.joined or None,
        "warnings": list(record.warnings),
        "text": record.text,
    }
    return {name: value for name, value in known.items() if value not in ("", None, [], {})}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
