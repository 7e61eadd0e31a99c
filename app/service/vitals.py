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
    degraded = service.models.degraded()
    if service.temp.is_short:
        degraded.append(DISK_SHORT)
    return Vitals(tuple(degraded), _fatal(service))


def _fatal(service: Service) -> str:
    return service.models.fatal() or (DEVICE_LOST if service.broken.is_set() else "")


def supervise(service: Service) -> None:
    """Replace dead parts and detect a fatal failure. Call it about once a second."""
    service.models.check()
    service.decode_pool.check()
    service.calls.joining.forget()
    fatal = _fatal(service)
    if fatal and not service.broken.is_set():
        log.critical("the service ends and must be restarted: %s", fatal)
        service.broken.set()
