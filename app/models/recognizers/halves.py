"""Both halves of a batch at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Halves:
    """Calls a model with the two halves of a batch at once, if the model has two workers.

    CTranslate2 decodes the words of a batch one after the other, in steps that are too small for
    several cores. Two calls keep two cores busy.
    """

    def __init__(self, num_workers: int) -> None:
        self.active = num_workers > 1
        self._helper = ThreadPoolExecutor(1, "half") if self.active else None

    def call(self, model: Callable[[Sequence[int]], list[T]], num_items: int) -> list[T]:
        """What `model` returns for all items, in their order. It gets the numbers of some items,
        and returns an outcome for each. Neighbors in the batch are of one recording, and about as
        long: each half gets every other one.
        """
        if self._helper is None or num_items < 2:
            return model(range(num_items))
        helped = self._helper.submit(model, range(1, num_items, 2))
        try:
            own = model(range(0, num_items, 2))
        finally:
            helped.exception()  # the model is not called again before both are over
        outcomes = [*own, *helped.result()]
        outcomes[::2], outcomes[1::2] = own, helped.result()
        return outcomes

    def close(self) -> None:
        if self._helper is not None:
            self._helper.shutdown()
