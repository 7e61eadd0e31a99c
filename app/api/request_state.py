"""What the middleware knows of a request: its id, its record, its client."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Scope

from app.observability.record import RequestRecord


def record_of(request: Request) -> RequestRecord:
    record: RequestRecord = request.state.record
    return record


def request_id_of(request: Request) -> str:
    request_id: str = request.state.request_id
    return request_id


def client_name(scope: Scope) -> str:
    """The name of the key that a request came with; empty where there are no keys."""
    name: str = scope.get("state", {}).get("client_name", "")
    return name
