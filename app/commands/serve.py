"""`whisperx-asr serve` and `worker`: the service, until a signal ends it."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys

from app.config.environment import prepare_ray
from app.config.replaced import replaced_variables
from app.config.settings import Settings, load_settings
from app.domain.errors import ConfigurationError
from app.models.host_memory import keep_freed_memory


def run(options: argparse.Namespace) -> int:
    keep_freed_memory()
    given = {"host": options.host, "port": options.port}
    settings = load_settings({name: v for name, v in given.items() if v is not None})
    if options.ray:
        return _serve_on_ray(settings)
    gc.disable()  # until all is imported: a quarter of what that costs
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
    gc.enable()
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
