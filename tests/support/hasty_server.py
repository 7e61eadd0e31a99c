"""The service as its command line starts it, but that it tries missing models again soon."""

from __future__ import annotations

import sys

INTERVAL_S = 3.0


def main() -> int:
    from app.cli import main as serve
    from app.engine import failures as missing
    from app.models import loader as loading

    missing.MIN_INTERVAL_S = missing.MAX_INTERVAL_S = INTERVAL_S
    loading.PRELOAD_RETRY_S = INTERVAL_S
    return serve()


if __name__ == "__main__":
    sys.exit(main())
