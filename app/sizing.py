"""How many items a batch should have, by its measured time. Pure."""

from __future__ import annotations

TARGET_S = 1.0  # a batch that takes longer keeps others waiting
NEARLY_AS_WELL = 1.15  # a smaller batch may cost this much more for each item
SMOOTHING = 0.3


class BatchSizer:
    """Halves batches that hold the device for more than about a second, where that costs little.

    On a GPU a batch of sixteen takes hardly longer than one of eight, so sixteen stay; on a CPU
    it takes twice as long, so that smaller batches let others in sooner for the same throughput.
    Sizes are `max_size` halved again and again.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._item_s: dict[int, float] = {}  # size -> seconds for each item, smoothed

    def observe(self, num_items: int, seconds: float) -> None:
        size = self._size_of(num_items)
        item_s = seconds / num_items
        known = self._item_s.get(size)
        self._item_s[size] = item_s if known is None else known + SMOOTHING * (item_s - known)

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

    def _size_of(self, num_items: int) -> int:
        """The size that a batch of so many items tells something about."""
        size = self._max_size
        while size // 2 >= num_items and size > 1:
            size //= 2
        return size
