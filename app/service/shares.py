"""Fair shares of a limited number of places. Pure.

A client that is alone may have all places. Once others come, each may have as many as there are for
each; who has more gives way with what has not begun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Holder(Protocol):
    """Someone in a place. `account`: whose it is."""

    @property
    def account(self) -> str: ...

    @property
    def begun(self) -> bool: ...


H = TypeVar("H", bound=Holder)


def share(holders: Sequence[Holder], newcomer: str, amount: float) -> float:
    """What of an amount is there for each account, the newcomer's included."""
    return amount / len({newcomer, *(holder.account for holder in holders)})


def who_gives_way(holders: Sequence[H], newcomer: str, places: float) -> H | None:
    """The newest holder, of those who have not begun, of the account with the most places.

    None if the newcomer has its share already, or if nobody has more than that.
    """
    counts = Counter(holder.account for holder in holders)
    fair = share(holders, newcomer, places)
    if counts[newcomer] + 1 > fair:
        return None
    waiting = [h for h in holders if not h.begun and counts[h.account] > fair]
    return max(reversed(waiting), key=lambda h: counts[h.account], default=None)
