"""What middleware stored about a request: its id, its record, its client."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    """The name of the request's API key; empty if no keys are configured."""
    name: str = scope.get("state", {}).get("client_name", "")
    return name


def on_answer(request: Request, headers: Callable[[], Mapping[str, str]]) -> None:
    """Add the headers that are known when the answer begins."""
    sources: list[Callable[[], Mapping[str, str]]]
    sources = request.scope["state"].setdefault("answer_headers", [])
    sources.append(headers)


def report_error(request: Request, error: ServiceError) -> None:
    """Note an error for log and metrics, even if the answer has already begun."""
    record: RequestRecord | None = getattr(request.state, "record", None)
    if record is not None:  # WebSockets have none
        record.error = type(error).__name__
        record.status = status_of(error)
