"""What runs in a fetching process: confines itself, fetches one URL, says how that went."""

from __future__ import annotations

import json
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from app.storage.child import end_with_parent, limit
from app.storage.confinement import confine
from app.storage.egress import EgressRules
from app.storage.fetch_failure import Failure, FetchLimits, Reason
from app.storage.fetch_gate import Gate
from app.storage.fetch_guard import NATIVE, Guard
from app.storage.fetch_http import fetch_file
from app.storage.fetch_page import fetch_page
from app.storage.tempdir import NO_ROOM

MEMORY_BYTES = 1 << 30
NUM_FILES = 64
SLACK_BYTES = 1 << 20  # that the last piece may exceed a limit by, before the kernel says no


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which ends us
    connection = socket.socket(fileno=int(sys.argv[1]))
    with connection.makefile("rb") as lines:
        order = json.loads(lines.readline())
    folder = Path.cwd()
    _confine(order, folder)
    threading.Thread(target=end_with_parent, args=(connection,), daemon=True).start()
    guard = Guard(EgressRules(order["allowed"]), folder)
    guard.arm()
    connection.sendall(json.dumps(_answer(order, folder, guard)).encode())


def _confine(order: dict[str, Any], folder: Path) -> None:
    sys.dont_write_bytecode = True
    limit(resource.RLIMIT_AS, MEMORY_BYTES, for_good=True)
    limit(resource.RLIMIT_FSIZE, order["max_bytes"] + SLACK_BYTES, for_good=True)
    limit(resource.RLIMIT_NOFILE, NUM_FILES, for_good=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    confine(folder, fetching=True)


def _answer(order: dict[str, Any], folder: Path, guard: Guard) -> dict[str, Any]:
    try:
        name = _fetch(order, folder)
    except Failure as failure:
        return _told(failure, guard)
    except MemoryError:
        return _told(Failure(Reason.MEMORY), guard)
    except OSError as error:
        reason = Reason.DISK_FULL if error.errno in NO_ROOM else Reason.CONNECTION
        return _told(Failure(reason, detail=type(error).__name__), guard)
    # The boundary of the process: its service must get an answer.
    except Exception as error:  # noqa: BLE001
        return _told(Failure(Reason.FAILED, detail=type(error).__name__), guard)
    return {"file_name": name}


def _told(failure: Failure, guard: Guard) -> dict[str, Any]:
    consequence = failure.reason in (Reason.CONNECTION, Reason.NO_RECORDING, Reason.FAILED)
    reason = Reason.FORBIDDEN if guard.refused_address and consequence else failure.reason
    return {
        "reason": reason,
        "status": failure.status,
        "retry_after_s": failure.retry_after_s,
        "detail": failure.detail,
    }


def _fetch(order: dict[str, Any], folder: Path) -> str:
    limits = FetchLimits(order["max_bytes"], order["max_duration_s"])
    gate = Gate(folder, limits.max_bytes, order["min_free_bytes"])
    target = folder / order["target"]
    url = order["url"]
    found = fetch_file(url, target, gate)
    name = found if isinstance(found, str) else fetch_page(url, found, target, gate, limits)
    if any(sys.modules.get(native) for native in NATIVE):
        raise Failure(Reason.UNSAFE)  # it may have connected to anywhere
    return name
