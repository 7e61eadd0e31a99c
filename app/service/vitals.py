"""The health of the service: which parts do not work, and whether it can recover by itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from app.service.service import Service

log = logging.getLogger(__name__)

DEVICE_LOST = "The device is lost to this process."
DISK_SHORT = "The disk of the temporary files is full: uploads are refused."


@dataclass(frozen=True, slots=True)
class Vitals:
    """`degraded`: what does not work now. `fatal`: why nothing will work again; empty if it may."""

    degraded: tuple[str, ...]
    fatal: str = ""


def read_vitals(service: Service) -> Vitals:
    degraded = [
        f"The {key.kind} {key.short_name} stopped; the next request reloads it."
        for key in service.store.dead()
    ]
    degraded += service.store.missing()
    if service.temp.is_short:
        degraded.append(DISK_SHORT)
    return Vitals(tuple(degraded), _fatal(service))


def _fatal(service: Service) -> str:
    timeout_s = service.settings.model_call_timeout_s
    call = service.store.longest_call()
    if call is not None and timeout_s and call[0] > timeout_s:
        return f"A call of the {call[1].kind} {call[1].short_name} does not return."
    return DEVICE_LOST if service.broken.is_set() else ""


def supervise(service: Service) -> None:
    """Replace dead parts and detect a fatal failure. Call it about once a second."""
    service.store.check()
    service.decode_pool.check()
    service.calls.joining.forget()
    fatal = _fatal(service)
    if fatal and not service.broken.is_set():
        log.critical("the service ends and must be restarted: %s", fatal)
        service.broken.set()
