"""What a fetching process may do, as Python's audit hook sees it: connect to permitted addresses,
change files in its folder, read code and the system's files, start nothing.

It sees the address of each connection, whoever makes it and whatever name, redirect or playlist led
there. Libraries with a network stack in C would pass it by; `NATIVE` lists those that yt-dlp uses.
Source: PEP 578 and the audit events table of Python's documentation.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.storage.egress import EgressRules

NATIVE = ("curl_cffi", "pycurl")
REFUSED = frozenset({
    "subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "os.system", "pty.spawn", "os.kill", "os.killpg", "os.link", "os.symlink", "os.chown",
    "os.setxattr", "os.removexattr", "socket.sethostname", "sqlite3.connect", "ctypes.dlopen",
    "signal.pthread_kill", "syslog.openlog", "shutil.chown",
})  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events whose first arguments are paths that are changed.
CHANGING = {
    "os.remove": 1, "os.rename": 2, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1, "os.chmod": 1,
    "os.utime": 1, "os.chflags": 1,
}  # fmt: skip
READABLE = (
    "/usr", "/lib", "/lib64", "/dev/null", "/dev/urandom", "/etc/ssl", "/etc/pki", "/etc/hosts",
    "/etc/resolv.conf", "/etc/mime.types", "/etc/localtime", "/etc/apache2/mime.types",
)  # fmt: skip


class Refused(PermissionError):
    """What the guard raises where something is refused."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "refused")


class Guard:
    """For a whole process and for good, once armed. `refused_address`: whether it refused one."""

    def __init__(self, rules: EgressRules, folder: Path) -> None:
        self.refused_address = False
        self._rules, self._asking = rules, threading.local()
        self._folder = os.path.realpath(folder)
        code = (os.path.realpath(path) for path in (*sys.path, sys.prefix, sys.base_prefix) if path)
        self._readable = (self._folder, *READABLE, *code)
        self._checks: dict[str, Callable[[tuple[Any, ...]], None]] = {
            "socket.connect": self._check_address,
            "socket.sendto": self._check_address,
            "socket.sendmsg": self._check_address,
            "socket.__new__": self._check_family,
            "open": self._check_open,
        }
        for event, num_paths in CHANGING.items():
            self._checks[event] = self._checker_of_paths(num_paths)
        for event in REFUSED:
            self._checks[event] = self._refuse

    def arm(self) -> None:
        for name in NATIVE:
            sys.modules[name] = None  # type: ignore[assignment] # an import of it fails
        sys.addaudithook(self._see)

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        check = self._checks.get(event)
        if check is not None and not getattr(self._asking, "rules", False):
            check(args)

    def _refuse(self, args: tuple[Any, ...]) -> None:
        raise Refused

    def _check_address(self, args: tuple[Any, ...]) -> None:
        """A name instead of an address is refused: it would be looked up after this check."""
        address = args[1]
        if address is None:  # a message to where the socket is connected to
            return
        host = address[0] if isinstance(address, tuple) and address else None
        if not isinstance(host, str) or not self._is_permitted(host):
            self.refused_address = True
            raise Refused

    def _is_permitted(self, host: str) -> bool:
        self._asking.rules = True  # they use a socket themselves
        try:
            return self._rules.permits(host)
        finally:
            self._asking.rules = False

    def _check_family(self, args: tuple[Any, ...]) -> None:
        if args[1] not in (socket.AF_INET, socket.AF_INET6):
            raise Refused

    def _check_open(self, args: tuple[Any, ...]) -> None:
        path, _, flags = args
        if isinstance(path, int):
            return
        if not self._is_within(path, (self._folder,) if flags & WRITING else self._readable):
            raise Refused

    def _checker_of_paths(self, num_paths: int) -> Callable[[tuple[Any, ...]], None]:
        def check(args: tuple[Any, ...]) -> None:
            for path in args[:num_paths]:
                if not isinstance(path, int) and not self._is_within(path, (self._folder,)):
                    raise Refused

        return check

    @staticmethod
    def _is_within(path: Any, folders: tuple[str, ...]) -> bool:
        real = os.path.realpath(os.fsdecode(path))
        return any(real == folder or real.startswith(folder + os.sep) for folder in folders)
