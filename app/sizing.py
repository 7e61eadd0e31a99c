"""How many items a batch should have, by its measured time. Pure."""

from __future__ import annotations

TARGET_S = 1.0  # a batch that takes longer keeps others waiting
NEARLY_AS_WELL = 1.15  # a smaller batch may cost this much more for each item
SMOOTHING = 0.3
RETRY_AFTER = 50  # batches; then a size that was given up is tried again


class BatchSizer:
    """Halves batches that hold the device for more than about a second, where that costs little.

    On a GPU a batch of sixteen takes hardly longer than one of eight, so sixteen stay; on a CPU
    it takes twice as long, so that smaller batches let others in sooner for the same throughput.
    Sizes are `max_size` halved again and again.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._item_s: dict[int, float] = {}  # size -> seconds for each item, smoothed
        self._num_batches = 0

    def observe(self, num_items: int, seconds: float) -> None:
        """What a batch took. The first tells of warming up, a partial one of no size."""
        self._num_batches += 1
        if self._num_batches == 1 or num_items not in self._sizes():
            return
        item_s = seconds / num_items
        known = self._item_s.get(num_items)
        self._item_s[num_items] = item_s if known is None else known + SMOOTHING * (item_s - known)
        if self._num_batches % RETRY_AFTER == 0:
            self._item_s = {size: s for size, s in self._item_s.items() if size <= num_items}

    def shrink(self, num_items: int) -> None:
        """So many items did not fit into memory: never again."""
        self._max_size = max(1, min(self._max_size, num_items // 2))
        self._item_s = {size: s for size, s in self._item_s.items() if size <= self._max_size}

    @property
    def size(self) -> int:
        """The best size as far as is known; a size not yet tried where that may be better."""
        size = self._max_size
        while size > 1 and self._item_s.get(size, 0.0) * size > TARGET_S:
            half = size // 2
            if half in self._item_s and self._item_s[half] > NEARLY_AS_WELL * self._item_s[size]:
                break
            size = half
        return size

    def _sizes(self) -> set[int]:
        sizes, size = set(), self._max_size
        while size >= 1:
            sizes.add(size)
            size //= 2
        return sizes
