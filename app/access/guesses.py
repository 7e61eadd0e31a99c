"""Wrong API keys: how many an address may try."""

from __future__ import annotations

from collections import OrderedDict

from app.access.rate_limits import RateLimits
from app.domain.errors import RateLimited

GUESSES_PER_MINUTE = 100
MAX_KNOWN = 10_000
TOO_MANY = "Too many wrong API keys came from this address; try again later."


class Guesses:
    """Refuses an address that tries one wrong key after the other, and nobody else.

    Clients behind one proxy may share an address, so a key that came from there before the address
    was refused still opens. Any other does not, be it right or wrong: else guesses would go on.
    """

    def __init__(self, per_minute: int = GUESSES_PER_MINUTE) -> None:
        self._limits = RateLimits(per_minute)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()  # the latest last

    def note(self, address: str, name: str | None, num_wrong: int) -> None:
        """Counts the wrong ones of the keys that an address presents. `name`: the right one's.

        Raises:
            RateLimited: too many wrong ones came from the address.
        """
        if name is not None and num_wrong <= 0 and (address, name) in self._known:
            self._known.move_to_end((address, name))
            return
        wrong = self._limits.usage(self._limits.requests, address)
        if wrong is not None and not wrong.remaining:
            raise RateLimited(TOO_MANY, wrong.wait_s(1))
        if num_wrong > 0 and wrong is not None:
            self._limits.hit(self._limits.requests, address, min(num_wrong, wrong.remaining))
        if name is not None:
            self._remember(address, name)

    def _remember(self, address: str, name: str) -> None:
        self._known[address, name] = None
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
