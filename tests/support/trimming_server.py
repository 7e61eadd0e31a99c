"""The service as its command line starts it, but that SIGUSR2 makes it return what it freed.

The service keeps freed memory for its next batch, so the resident memory of a service at rest tells
the most that was ever in use. What it still uses is seen once the rest has gone back to the kernel.
"""

from __future__ import annotations

import signal
import sys


def main() -> int:
    from app.cli import main as serve
    from app.models.devices import free_memory

    signal.signal(signal.SIGUSR2, lambda *_: free_memory())
    return serve()


if __name__ == "__main__":
    sys.exit(main())
