"""The service as its command line starts it, but that no live transcript is ever late: on a busy
machine, utterances are heard as they are on an idle one.
"""

from __future__ import annotations

import sys


def main() -> int:
    from app.cli import main as serve
    from app.live import partials

    partials.LATE_STEP_S = partials.LONGEST_STEP_S + 1
    return serve()


if __name__ == "__main__":
    sys.exit(main())
