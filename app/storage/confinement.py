"""What a process gives up before it sees hostile data: network, programs, the service's memory.

Each fence stands where the kernel has it: seccomp and Landlock need no rights, but a container's
own rules or an old kernel may lack them. Linux on x86-64 and ARM64.
Sources: Documentation/userspace-api/seccomp_filter.rst and landlock.rst of the kernel.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

# name: numbers on x86-64 and ARM64
CALLS = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242), "execve": (59, 221),
    "execveat": (322, 281), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kill": (62, 129), "rt_sigqueueinfo": (129, 138),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "io_uring_setup": (425, 425),
    "bpf": (321, 280), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "keyctl": (250, 219), "perf_event_open": (298, 241),
}  # fmt: skip
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH_...
NETWORK = frozenset({"socket", "socketpair", "connect", "bind"})  # what a client needs
SECCOMP, CAPSET = (317, 277), (126, 91)
CAPABILITY_VERSION = 0x20080522
X32_BIT = 0x4000_0000  # x86-64's second numbering of the same calls

LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, REFUSE = 0x7FFF_0000, 0x0005_0001  # SECCOMP_RET_ERRNO with EPERM
PR_SET_NO_NEW_PRIVS, SET_MODE_FILTER = 38, 1

LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
WRITE_FILE, TRUNCATE = 1 << 1, 1 << 14
CHANGES = WRITE_FILE | 0x1FF0  # and removing and making of any kind
MAKING_FILES = 1 << 5 | 1 << 8  # and removing them: regular ones
TRUNCATE_SINCE = 3  # version of Landlock


def confine(folder: Path, *, fetching: bool = False) -> list[str]:
    """The fences that this kernel put up, for good. `folder`: where files may be written; while
    `fetching` also made and removed, and the process may connect to others.

    Only for this thread and those that it starts.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return []
    fences = []
    with suppress(OSError, KeyError):
        _drop_capabilities(libc)
    with suppress(OSError):
        _allow_writing(libc, folder, MAKING_FILES if fetching else 0)
        fences.append("landlock")
    with suppress(OSError, KeyError):
        _refuse_calls(libc, CALLS.keys() - (NETWORK if fetching else ()))
        fences.append("seccomp")
    return fences


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Of root, if the service runs as root."""
    head, none = struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24)
    _checked(libc.syscall(CAPSET[MACHINES[platform.machine()][0]], head, none))


def _refuse_calls(libc: ctypes.CDLL, names: Iterable[str]) -> None:
    """Raises KeyError on other machines, OSError if the kernel does not filter calls."""
    column, machine = MACHINES[platform.machine()]
    code = _filter([CALLS[name][column] for name in names], machine)
    program = ctypes.create_string_buffer(code)
    head = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(program))
    _checked(libc.syscall(SECCOMP[column], SET_MODE_FILTER, 0, head))


def _filter(refused: Sequence[int], machine: int) -> bytes:
    """A program for the kernel: the calls `refused` fail, those of other machines too."""
    lines = [(LOAD, 0, 0, 4), (JUMP_IF_EQUAL, 1, 0, machine), (RETURN, 0, 0, REFUSE)]
    lines.append((LOAD, 0, 0, 0))
    lines.append((JUMP_IF_AT_LEAST, len(refused) + 1, 0, X32_BIT))
    lines += [(JUMP_IF_EQUAL, len(refused) - i, 0, number) for i, number in enumerate(refused)]
    lines += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _allow_writing(libc: ctypes.CDLL, folder: Path, more: int) -> None:
    """Files beneath `folder` may be changed, no others. The process can no longer look into others
    of the same user either, the service among them. Raises OSError if the kernel has no Landlock.
    """
    version = _checked(libc.syscall(LANDLOCK_CREATE, None, 0, 1))
    truncate = TRUNCATE if version >= TRUNCATE_SINCE else 0
    handled = struct.pack("Q", CHANGES | truncate)
    rules = _checked(libc.syscall(LANDLOCK_CREATE, handled, len(handled), 0))
    try:
        place = os.open(folder, os.O_PATH)
        try:
            rule = struct.pack("=Qi", WRITE_FILE | truncate | more, place)
            _checked(libc.syscall(LANDLOCK_ADD, rules, 1, rule, 0))
        finally:
            os.close(place)
        _checked(libc.syscall(LANDLOCK_RESTRICT, rules, 0))
    finally:
        os.close(rules)


def _checked(value: int) -> int:
    if value < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return value
