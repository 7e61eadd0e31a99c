"""The service whose recognizer waits, for requests with the hotword `hold`, until a file named
`open` lies in the server's folder, and any model while one named `hold-<kind>` does. Clients that
hang up count as timed out from the first second.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.remembering import Run, wrap_models

HOLD = "hold"
GATE = "open"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Requests with the hotword wait until the block ends."""
    (folder / GATE).unlink(missing_ok=True)
    try:
        yield
    finally:
        (folder / GATE).touch()


def holding(model: Any, key: Any, *_: Any) -> Run:
    """Also where a model remembers what it will answer."""
    run: Run = model.run

    def is_held(items: Sequence[Any]) -> bool:
        wanted = [getattr(item, "options", None) for item in items]
        asked = any(options and options.hotwords == HOLD for options in wanted)
        return (asked and not Path(GATE).exists()) or Path(f"hold-{key.kind}").exists()

    def held_run(items: Sequence[Any]) -> list[Any]:
        while is_held(items):
            time.sleep(0.02)
        return run(items)

    return held_run


def main() -> int:
    from app.cli import main as serve
    from app.config.environment import prepare_environment
    from app.config.settings import load_settings

    keys = os.environ.get("API_KEYS", "")
    prepare_environment(load_settings())
    os.environ["API_KEYS"] = keys  # it is hidden by then
    from app.service import build

    wrap_models(holding)
    build.JoiningLimits = functools.partial(build.JoiningLimits, patience_s=0.0)  # type: ignore
    return serve()


if __name__ == "__main__":
    sys.exit(main())
