"""BuildLock: one alone, or many beside each other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from app.models.build_lock import BuildLock
from tests.support.waiting import eventually


def test_beside_each_other_but_not_beside_one_alone() -> None:
    lock, together, go_on = BuildLock(), threading.Barrier(2, timeout=20), threading.Event()
    order: list[str] = []

    def beside(name: str, meet: bool) -> None:
        with lock.beside():
            if meet:
                together.wait()
                go_on.wait(20)
            order.append(name)

    def alone() -> None:
        with lock.alone():
            order.append("alone")

    with ThreadPoolExecutor(5) as pool:
        first = [pool.submit(beside, "first", True) for _ in range(2)]
        eventually(lambda: lock._num_beside == 2)
        waiting = pool.submit(alone)
        eventually(lambda: lock._num_waiting)
        later = pool.submit(beside, "later", False)  # one alone is not kept waiting forever
        assert not later.done()
        go_on.set()
        for future in (*first, waiting, later):
            future.result(20)
    assert order == ["first", "first", "alone", "later"]
