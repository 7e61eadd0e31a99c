"""Front: the replica that serves HTTP and WebSockets, and has transcribers do the work."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.domain.errors import Forbidden
from app.jobs.runner import KIND as JOB
from app.main import create_app
from app.models.host_memory import keep_freed_memory
from app.service.admission import QueueEntry
from app.service.build import Hosting, build_front
from app.service.peers import Figures
from app.service.service import Service
from app.serving.ray_line import Handle, Line, asked_all
from app.serving.ray_remote import RemoteModels, RemoteTranscriber
from app.serving.ray_replica import Watch, own_name, prepare

PEERS_TIMEOUT_S = 3.0
DEVICE = "ray"  # until a transcriber has told which one it has


class Front:
    """A deployment of Ray Serve: the app of a service, whose models are in other replicas."""

    def __init__(self, transcribers: Handle, overrides: Mapping[str, object]) -> None:
        keep_freed_memory()
        settings = prepare(overrides)
        self.name = own_name()
        self._line = line = Line(transcribers)

        def connect(*_: object) -> tuple[RemoteModels, RemoteTranscriber]:
            models = RemoteModels(line, settings.fleet_min_transcribers == 0)
            return models, RemoteTranscriber(line, models, settings.request_timeout_s)

        peers = FleetPeers(self.name, transcribers, _own_deployment)
        hosting = Hosting(DEVICE, settings.compute_type, connect, elsewhere=True, peers=peers)
        self.service: Service = build_front(settings, hosting)
        self._watch = Watch(self.service)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve, once this object is built."""
        app = create_app(self.service)
        trusted = list(self.service.settings.trusted_proxies)
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=trusted)
        gc.freeze()
        return app

    def check_health(self) -> None:
        self._watch.check()

    # -- asked by other fronts, or by who ends them ----------------------------------------------

    async def figures(self) -> tuple[str, Figures]:
        return self.name, await asyncio.to_thread(self.service.metrics.figures)

    async def entries(self) -> tuple[str, list[QueueEntry]]:
        return self.name, self.service.admission.entries()

    async def drain(self) -> int:
        """Refuse new requests and end live streams, before the service ends. How many run: jobs
        do not count, as their queue has them done later.
        """
        self.service.stop_admitting()
        return sum(entry.kind != JOB for entry in self.service.admission.entries())

    async def cancel(self, request_id: str, client: str) -> tuple[str, bool | Forbidden]:
        try:
            return self.name, self.service.admission.cancel(request_id, client)
        except Forbidden as error:
            return self.name, error.with_traceback(None)


def _own_deployment() -> Handle:
    context = serve.get_replica_context()
    return serve.get_deployment_handle(context.deployment, context.app_name)


class FleetPeers:
    """Implements `Peers` with all replicas but this one. Not in the event loop's thread."""

    def __init__(self, name: str, transcribers: Handle, fronts: Callable[[], Handle]) -> None:
        self._name = name
        self._transcribers = transcribers
        self._fronts = fronts

    @property
    def own_name(self) -> str:
        return self._name

    def figures(self) -> dict[str, Figures]:
        transcribers = asked_all(self._transcribers, "figures", PEERS_TIMEOUT_S)
        return dict(transcribers) | self._ask("figures")

    def entries(self) -> list[QueueEntry]:
        return [entry for entries in self._ask("entries").values() for entry in entries]

    def cancel(self, request_id: str, client: str) -> bool:
        answers = self._ask("cancel", request_id, client).values()
        for answer in answers:
            if isinstance(answer, Forbidden):
                raise answer
        return any(answers)

    def _ask(self, method: str, *arguments: object) -> dict[str, Any]:
        answers = dict(asked_all(self._fronts(), method, PEERS_TIMEOUT_S, *arguments))
        answers.pop(self._name, None)  # it would be told twice
        return answers
