"""What the service's environment still shows once it runs."""

from __future__ import annotations

import os
import subprocess
import sys

from app.config.environment import SECRETS, bare_environment

LOOK = """
import os
from pathlib import Path
from app.config.environment import forget_secrets
forget_secrets()
print(dict(os.environ), Path("/proc/self/environ").read_bytes())
"""


def test_secrets_are_gone_from_memory() -> None:
    """Also from what the kernel shows to every process of the same user."""
    secrets = {name: f"hidden-{i}" for i, name in enumerate(SECRETS)}
    given = {**os.environ, **secrets, "API_KEYS_FILE": "kept", "LAST": "kept too"}
    shown = subprocess.run(
        [sys.executable, "-c", LOOK], env=given, capture_output=True, text=True, check=True
    ).stdout
    assert "hidden" not in shown
    assert shown.count("API_KEYS_FILE") == 2
    assert shown.count("kept too") == 2


def test_a_decoding_process_gets_no_more_than_it_needs() -> None:
    assert {"PATH", "OMP_NUM_THREADS"} <= bare_environment().keys()
    assert not {*SECRETS, "AWS_SECRET_ACCESS_KEY"} & bare_environment().keys()
