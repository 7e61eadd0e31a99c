"""What the middleware knows of a request: its id, its record, its client."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Scope

from app.api.statuses import status_of
from app.domain.errors import ServiceError
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


def report_error(request: Request, error: ServiceError) -> None:
    """Have log and metrics know of it, where the answer had begun already, too."""
    record: RequestRecord | None = getattr(request.state, "record", None)
    if record is not None:  # web sockets have none
        record.error = type(error).__name__
        record.status = status_of(error)
