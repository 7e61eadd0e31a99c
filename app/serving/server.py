"""The server: how it begins to listen, is looked after, and comes to an end."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import socket
import sys
import time
from types import FrameType

import uvicorn

from app.service.service import Service
from app.service.vitals import supervise
from app.serving.connection import AsgiApp, Connection, ConnectionLimits
from app.serving.sockets import BACKLOG, address_of, allow_files, listen

log = logging.getLogger(__name__)

SPARE_FILES = 4096  # beside connections: uploads, models, pipes
SUPERVISE_TICKS = 10  # of 0.1 s
ANSWER_S = 2  # for requests that are given up to say so


def serve(service: Service, app: AsgiApp, sockets: list[socket.socket]) -> int:
    """Serve until a signal comes or nothing can work any more; the exit code."""
    settings = service.settings
    allow_files(settings.max_connections + SPARE_FILES)
    listen(settings, sockets)
    limits = ConnectionLimits(
        settings.max_connections,
        settings.connection_timeout_s,
        service.metrics.connection_refused,
    )
    config = uvicorn.Config(
        app,
        http=functools.partial(Connection, limits),  # type: ignore[arg-type]
        backlog=BACKLOG,
        log_config=None,
        access_log=False,  # the service logs its requests itself
        server_header=False,
        forwarded_allow_ips=",".join(settings.trusted_proxies),
        timeout_graceful_shutdown=settings.shutdown_grace_s + 2 * ANSWER_S,
    )
    addresses = [address_of(*sock.getsockname()[:2]) for sock in sockets]
    log.info("listening on %s", ", ".join(f"http://{address}" for address in addresses))
    server = Server(config, service)
    server.run(sockets)
    return server.exit_code


class Server(uvicorn.Server):
    """uvicorn's server, which by itself closes its door at once and cuts off who is late.

    After SIGTERM it still answers newcomers for a while (with 503, so that load balancers see it
    and turn to others), then waits for running requests, then has the rest answered with 503. A
    second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.exit_code = 0
        self._service = service
        self._signal: int | None = None
        self._stop_at: float | None = None
        self._watch: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """In the main thread, between any two of its steps: no lock may be taken here."""
        if self._signal is None:
            self._signal = sig
            return
        os.write(sys.stderr.fileno(), b"a second signal: ending now\n")
        self._service.temp.close()
        os._exit(128 + sig)

    async def on_tick(self, counter: int) -> bool:
        if counter % SUPERVISE_TICKS == 0 and (self._watch is None or self._watch.done()):
            self._watch = asyncio.create_task(asyncio.to_thread(self._supervise))
        if self._stop_at is None and (self._signal or self._service.broken.is_set()):
            self._begin_to_stop()
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            return True
        return await super().on_tick(counter)

    def _supervise(self) -> None:
        try:
            supervise(self._service)
        # A fault of the watch must not end what it watches.
        except Exception:
            log.exception("looking after the service failed")

    def _begin_to_stop(self) -> None:
        if self._signal is None:
            self.exit_code = 1  # for those who start again only what failed
        # Ctrl-C is typed by people; no load balancer has to hear of it
        interactive = self._signal == signal.SIGINT
        drain_s = 0.0 if interactive else self._service.settings.shutdown_drain_s
        self._stop_at = time.monotonic() + drain_s
        self._service.stop_admitting()
        running = self._service.admission.num_requests
        log.info("stopping: nothing new is taken, %d requests are under way", running)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.stop_admitting()
        late = asyncio.create_task(self._give_up())
        try:
            await super().shutdown(sockets)
        finally:
            late.cancel()

    async def _give_up(self) -> None:
        await asyncio.sleep(self._service.settings.shutdown_grace_s)
        if given_up := self._service.admission.give_up():
            log.warning("the time to stop is over: %d requests are given up", given_up)
        await asyncio.sleep(ANSWER_S)
        for task in tuple(self.server_state.tasks):  # those whose model does not hear
            task.cancel()
