"""The only place that rounds time."""

from __future__ import annotations

import math


def seconds(value: float) -> float:
    """Rounded to milliseconds."""
    return milliseconds(value) / 1000


def milliseconds(value: float) -> int:
    """Whole milliseconds. 0 if not finite (JSON has no NaN) or negative (invalid in subtitles)."""
    return max(0, round(value * 1000)) if math.isfinite(value) else 0
