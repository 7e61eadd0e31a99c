"""How many items a batch should have, from measured times. For any thread."""

from __future__ import annotations

import threading
from collections.abc import Hashable

import cachetools

TARGET_S = 1.0  # longer batches keep others waiting
NEARLY_AS_WELL = 1.15  # a smaller batch may cost this much more for each item
SMOOTHING = 0.3
RETRY_AFTER = 50  # batches, until a rejected size is tried again
MAX_KINDS = 128  # of batches, of which the sizes are remembered


class BatchSizer:
    """Finds a size that keeps the device busy for about a second at most, if that costs little.

    Sizes grow from one item. On a GPU a batch of sixteen takes hardly longer than one of eight, so
    they grow to sixteen. On a CPU it takes twice as long: there, smaller batches let others in
    sooner at the same throughput. The sizes are `max_size` halved again and again.
    """

    def __init__(self, max_size: int) -> None:
        self._sizes = _halvings(max_size)
        self._item_s: dict[int, float] = {}  # size -> seconds for each item, smoothed
        self._num_batches = 0
        self._lock = threading.RLock()

    def observe(self, num_items: int, seconds: float) -> None:
        """Record a batch. The first one only measures warming up; partial ones fit no size."""
        with self._lock:
            self._num_batches += 1
            if self._num_batches > 1 and num_items in self._sizes:
                self._learn(num_items, seconds / num_items)

    def _learn(self, size: int, item_s: float) -> None:
        known = self._item_s.get(size, item_s)
        self._item_s[size] = known + SMOOTHING * (item_s - known)
        if self._num_batches % RETRY_AFTER == 0:
            self._item_s = {other: s for other, s in self._item_s.items() if other <= size}

    def shrink(self, num_items: int) -> None:
        """So many items did not fit into memory: never try them again."""
        with self._lock:
            self._sizes = _halvings(max(1, min(self._sizes[-1], num_items // 2)))
            self._item_s = {size: s for size, s in self._item_s.items() if size <= self._sizes[-1]}

    @property
    def size(self) -> int:
        """The best known size, or an untried one that may be better."""
        with self._lock:
            at = 0
            while at + 1 < len(self._sizes) and self._is_worth_growing(at):
                at += 1
            while at > 0 and self._is_slow(at) and self._pays(at - 1, at) is not True:
                at -= 1
            return self._sizes[at]

    def within(self, seconds: float) -> int:
        """As `size`, but none that is known to take longer, nor anything above it."""
        with self._lock:
            best = self._sizes[0]
            for size in self._sizes[1:]:
                item_s = self._item_s.get(size)
                if item_s is not None and item_s * size > seconds:
                    break
                best = size
                if item_s is None:  # to be tried
                    break
            return min(self.size, best)

    def _is_slow(self, at: int) -> bool:
        size = self._sizes[at]
        return self._item_s.get(size, 0.0) * size > TARGET_S

    def _pays(self, small: int, large: int) -> bool | None:
        """Whether the larger size saves much time per item; None until both are measured."""
        small_s = self._item_s.get(self._sizes[small])
        large_s = self._item_s.get(self._sizes[large])
        if small_s is None or large_s is None:
            return None
        return small_s > NEARLY_AS_WELL * large_s

    def _is_worth_growing(self, at: int) -> bool:
        if self._sizes[at] not in self._item_s:
            return False
        if self._sizes[at + 1] in self._item_s:
            return not self._is_slow(at + 1) or self._pays(at, at + 1) is True
        return at == 0 or not self._is_slow(at) or self._pays(at - 1, at) is True


class BatchSizers:
    """One model's sizers: one for each kind of batch, which take different times."""

    def __init__(self) -> None:
        self._sizers: cachetools.LRUCache[Hashable, BatchSizer] = cachetools.LRUCache(MAX_KINDS)
        self._lock = threading.Lock()

    def of(self, kind: Hashable, max_size: int) -> BatchSizer:
        with self._lock:
            if kind not in self._sizers:
                self._sizers[kind] = BatchSizer(max_size)
            return self._sizers[kind]


def _halvings(size: int) -> list[int]:
    """`size` halved again and again, in rising order."""
    sizes = [size]
    while sizes[0] > 1:
        sizes.insert(0, sizes[0] // 2)
    return sizes
