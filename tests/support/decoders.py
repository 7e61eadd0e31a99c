"""The processes that decode recordings for this one."""

from __future__ import annotations

import psutil


def decoders() -> list[psutil.Process]:
    """Of this process alone: servers that are forked below it have their own."""
    return [child for child in psutil.Process().children() if _is_decoder(child)]


def _is_decoder(process: psutil.Process) -> bool:
    try:
        return "app.audio.worker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # gone, or about to be
        return False
