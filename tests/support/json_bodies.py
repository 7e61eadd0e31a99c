"""JSON read as strict clients read it."""

from __future__ import annotations


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} in JSON")
