"""What all replicas do: read settings, write log lines, watch their service."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from ray import serve

from app.config.settings import Settings, load_settings
from app.domain.errors import ConfigurationError
from app.observability import logs
from app.service.service import Service
from app.service.vitals import read_vitals, supervise

log = logging.getLogger(__name__)

WATCH_S = 1.0


def own_name() -> str:
    """Of this replica, such as Front#k3x9."""
    context = serve.get_replica_context()
    return f"{context.deployment}#{context.replica_id.unique_id}"


def prepare(overrides: Mapping[str, object]) -> Settings:
    """The settings of this replica, whose log lines carry its name from here on."""
    settings = load_settings(overrides)
    logs.configure(settings.log_format, settings.log_level, replica=own_name())
    # its own lines say what ours say better
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    return settings


class Watch:
    """Looks after a service in a thread of its own, as a server's own loop does elsewhere."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stopping = threading.Event()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_S):
            try:
                supervise(self._service)
            # A bug in the checks must not end the checks.
            except Exception:
                log.exception("checking the service failed")

    def check(self) -> None:
        """Raises an error if the replica must be replaced."""
        if fatal := read_vitals(self._service).fatal:
            raise RuntimeError(fatal)

    def stop(self) -> None:
        self._stopping.set()


def refuse_unfit(settings: Settings, environment: Settings) -> None:
    """Raises ConfigurationError for what cannot work with several processes. `environment`: what is
    set there alone, and so for Ray's proxies, too.
    """
    if settings.wyoming_port is not None:
        raise ConfigurationError("WYOMING_PORT: not with Ray, which serves HTTP only.")
    if settings.max_file_size_mb > environment.max_file_size_mb:
        raise ConfigurationError(
            "MAX_FILE_SIZE_MB: belongs into the environment of Ray's nodes, whose proxies keep it."
        )
