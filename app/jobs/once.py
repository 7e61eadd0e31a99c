"""Accepts a job once, however often the same request comes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from app.jobs.idempotency import Idempotency
from app.jobs.job import Job, JobRequest
from app.jobs.store import JobStore


def submit_once(store: JobStore, request: JobRequest, same: Idempotency) -> Job:
    """The job of an earlier request of this client with the same key, or a new one.

    Raises:
        StillAccepting: another request with this key is being accepted.
        IdempotencyMismatch: the earlier one asked for something else.
        Overloaded: too many jobs wait.
    """
    job, is_new = store.keys.once(request.client, same.key, lambda: store.submit(request, same))
    if not is_new:
        store.keys.check_payload(request.client, same)
    return job


def hash_of(payload: Mapping[str, object]) -> str:
    """The same for the same content, in whatever order. Hex SHA-256."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
