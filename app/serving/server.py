"""The server: starts to listen, watches the service, stops gracefully."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import select
import signal
import socket
import sys
import time
from types import FrameType

import uvicorn

from app.config.server import ServerSettings
from app.service.pace import Pace
from app.service.service import Service
from app.service.vitals import supervise
from app.serving.connection import AsgiApp, Connection, ConnectionLimits
from app.serving.routes import serves_websocket
from app.serving.sockets import BACKLOG, address_of, allow_files, listen
from app.serving.streams import MAX_MESSAGE_BYTES, StreamConnection
from app.serving.uvicorn_internals import UvicornServer
from app.serving.wire import Wiring

log = logging.getLogger(__name__)

SPARE_FILES = 4096  # besides connections: uploads, models, pipes
SUPERVISE_TICKS = 10  # of 0.1 s
ANSWER_S = 2  # for cancelled requests to send their answer


def serve(service: Service, app: AsgiApp, sockets: list[socket.socket]) -> int:
    """Serve until a signal arrives or the service breaks. Returns the exit code."""
    settings: ServerSettings = service.settings
    allow_files(settings.max_connections + SPARE_FILES)
    listen(settings, sockets)
    limits = ConnectionLimits(
        settings.max_connections,
        settings.connection_timeout_s,
        settings.keep_alive_timeout_s,
        service.metrics.connection_refused,
    )
    wiring = Wiring(Pace(), functools.partial(serves_websocket, app))
    config = uvicorn.Config(
        app,
        http=functools.partial(Connection, limits, wiring),  # type: ignore[arg-type]
        ws=functools.partial(StreamConnection, Pace()),  # type: ignore[arg-type]
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # sound does not become smaller
        backlog=BACKLOG,
        log_config=None,
        access_log=False,  # the service has its own line for each request
        server_header=False,
        forwarded_allow_ips=",".join(settings.trusted_proxies),
        timeout_graceful_shutdown=settings.shutdown_grace_s + 2 * ANSWER_S,
    )
    addresses = [address_of(*sock.getsockname()[:2]) for sock in sockets]
    log.info("listening on %s", ", ".join(f"http://{address}" for address in addresses))
    server = Server(config, service, settings)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, server.handle_exit)  # the others are uvicorn's to set
    server.run(sockets)
    return server.exit_code


class Server(UvicornServer):
    """uvicorn's server with a graceful stop. uvicorn itself closes its sockets at once.

    After SIGTERM it answers new requests with 503 for a while, so that load balancers notice and
    use other replicas. Then it waits for running requests, and answers those that take too long
    with 503. A second signal ends the process immediately.
    """

    def __init__(self, config: uvicorn.Config, service: Service, settings: ServerSettings) -> None:
        super().__init__(config)
        self.exit_code = 0
        self._service = service
        self._settings = settings
        self._signal: int | None = None
        self._stop_at: float | None = None
        self._watch: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signal handler: it interrupts the main thread anywhere, so it must not take a lock."""
        if self._signal is None:
            self._signal = sig
        elif sig != signal.SIGHUP:  # of which a closing terminal sends several
            self._end_now(sig)

    def _end_now(self, sig: int) -> None:
        error = sys.stderr.fileno()
        if select.select([], [error], [], 0)[1]:  # else nobody reads what is written there
            os.write(error, b"a second signal: ending now\n")
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
        # A bug in the checks must not stop the service that they check.
        except Exception:
            log.exception("checking the service failed")

    def _begin_to_stop(self) -> None:
        if self._signal is None:
            self.exit_code = 1  # for supervisors that restart only after a failure
        # a person pressed Ctrl-C or closed the terminal: there is no load balancer to wait for
        interactive = self._signal in (signal.SIGINT, signal.SIGHUP)
        drain_s = 0.0 if interactive else self._settings.shutdown_drain_s
        self._stop_at = time.monotonic() + drain_s
        self._service.stop_admitting()
        running = self._service.admission.num_requests
        log.info("stopping: new requests are refused, %d are still running", running)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.stop_admitting()
        late = asyncio.create_task(self._give_up())
        try:
            await super().shutdown(sockets)
        finally:
            late.cancel()

    async def _give_up(self) -> None:
        await asyncio.sleep(self._settings.shutdown_grace_s)
        if given_up := self._service.admission.give_up():
            log.warning("shutdown time is over: cancelling %d requests", given_up)
        await asyncio.sleep(ANSWER_S)
        # what is left waits for a model that does not stop
        for task in tuple(self.server_state.tasks):
            task.cancel()
