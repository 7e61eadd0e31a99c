"""How Ray Serve chooses a transcriber for a request: see `routing.py`."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, TypeAlias

from ray.serve.request_router import (
    PendingRequest,
    ReplicaID,
    ReplicaResult,
    RequestRouter,
    RunningReplica,
)

from app.serving.autoscaling import QUEUED_S
from app.serving.orders import Order
from app.serving.routing import Candidate, ranked

MODELS = "models"  # the names of a transcriber's models, among its figures
# Until a transcriber has accepted an order, for the choices that are made meanwhile.
MEANT_S = 2.0

Replicas: TypeAlias = list[RunningReplica]


@dataclass(frozen=True, slots=True)
class _Sent:
    """An order on its way or at work. It counts until `until` (time.monotonic)."""

    replica: ReplicaID
    order: Order
    until: float = math.inf


class ModelRouter(RequestRouter):  # type: ignore[misc]
    """Knows what this front has sent to whom, and what transcribers report now and then."""

    def initialize_state(self, full_s: float) -> None:
        """`full_s`: seconds of audio that make a transcriber full."""
        self._full_s = full_s
        self._sent: dict[str, _Sent] = {}  # by request

    async def choose_replicas(
        self, candidate_replicas: Replicas, pending_request: PendingRequest | None = None
    ) -> list[Replicas]:
        order = _order(pending_request)
        if order is None or pending_request is None or len(candidate_replicas) < 2:
            return [candidate_replicas]
        by_id = {replica.replica_id: replica for replica in candidate_replicas}
        candidates = self._candidates(candidate_replicas)
        best_first = ranked(candidates, order.model, self._full_s)
        meant = _Sent(best_first[0], order, time.monotonic() + MEANT_S)
        self._sent.setdefault(pending_request.metadata.internal_request_id, meant)
        return [[by_id[found]] for found in best_first]

    def _candidates(self, replicas: Replicas) -> list[Candidate[ReplicaID]]:
        now = time.monotonic()
        self._sent = {key: sent for key, sent in self._sent.items() if sent.until > now}
        return [self._candidate(replica) for replica in replicas]

    def _candidate(self, replica: RunningReplica) -> Candidate[ReplicaID]:
        stats: dict[str, Any] = replica.routing_stats or {}
        orders = [s.order for s in self._sent.values() if s.replica == replica.replica_id]
        own_s = sum(order.audio_s for order in orders)
        # what is being loaded for an earlier order counts, too
        models = frozenset(stats.get(MODELS, ())) | {order.model for order in orders}
        return Candidate(replica.replica_id, models, max(own_s, stats.get(QUEUED_S, 0.0)))

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: ReplicaResult
    ) -> None:
        order = _order(pending_request)
        if order is not None:
            key = pending_request.metadata.internal_request_id
            self._sent[key] = _Sent(replica_id, order)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        self._sent.pop(internal_request_id, None)


def _order(pending: PendingRequest | None) -> Order | None:
    first = pending.args[0] if pending is not None and pending.args else None
    return first if isinstance(first, Order) else None
