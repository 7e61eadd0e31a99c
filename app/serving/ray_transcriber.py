"""Transcriber: the replica that holds models and works for the fronts."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

import ray

from app.domain.options import DecodingOptions, TranscribeOptions
from app.models.host_memory import keep_freed_memory
from app.service.build import CLOSE_TIMEOUT_S, build_service, close_service
from app.service.peers import Figures
from app.service.warmup import warm_up
from app.serving.autoscaling import BUSY, QUEUED_S
from app.serving.hall import Hall
from app.serving.orders import Event, Order, Outcome, Sound, SoundInfo
from app.serving.ray_remote import Packed
from app.serving.ray_replica import Watch, own_name, prepare
from app.serving.ray_router import MODELS


class Transcriber:
    """A deployment of Ray Serve. Its methods are `Hall`'s."""

    def __init__(self, overrides: Mapping[str, object]) -> None:
        """Load PRELOAD_MODEL, too: before, no request comes."""
        keep_freed_memory()
        settings = prepare(overrides)
        service = build_service(settings)
        warm_up(service, threading.Event())
        gc.freeze()
        self._hall = Hall(service, own_name())
        self._watch = Watch(service)

    async def transcribe(
        self, order: Order, sound: Packed, info: SoundInfo, options: TranscribeOptions
    ) -> AsyncIterator[tuple[Event, ...]]:
        events = self._hall.transcribe(order, lambda: _unpacked(sound), info, options)
        try:
            async for several in events:
                yield several
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    async def detect_language(
        self, order: Order, sound: Packed, info: SoundInfo, is_all: bool
    ) -> Outcome:
        return await self._hall.detect_language(order, lambda: _unpacked(sound), info, is_all)

    async def listen(self, order: Order, sound: Sound, options: DecodingOptions) -> Outcome:
        return await self._hall.listen(order, sound, options)

    async def traits(self, order: Order) -> Outcome:
        return await self._hall.traits(order)

    async def prepare(self, order: Order, language: str | None) -> Outcome:
        return await self._hall.prepare(order, language)

    async def report(self) -> Outcome:
        return self._hall.report()

    async def figures(self) -> tuple[str, Figures]:
        metrics = self._hall.service.metrics
        return self._hall.name, await asyncio.to_thread(metrics.figures)

    # -- called by Ray Serve ---------------------------------------------------------------------

    def record_autoscaling_stats(self) -> dict[str, float]:
        return {QUEUED_S: self._hall.queued_s, BUSY: self._hall.busy.share()}

    def record_routing_stats(self) -> dict[str, Any]:
        return {MODELS: self._hall.models, QUEUED_S: self._hall.routed_s}

    def check_health(self) -> None:
        self._watch.check()

    def __del__(self) -> None:
        if not hasattr(self, "_watch"):  # it could not be built, which tells why
            return
        self._watch.stop()
        close_service(self._hall.service, CLOSE_TIMEOUT_S)


def _unpacked(sound: Packed) -> Sound:
    """In the order's thread: it waits for sound that is on another machine."""
    if isinstance(sound, tuple):
        fetched: Sound = ray.get(sound[0])
        return fetched
    return sound
