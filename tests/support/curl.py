"""The curl of the machine."""

from __future__ import annotations

import shutil

import pytest


def curl_program() -> str:
    """Skips the test if there is none."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    return program
