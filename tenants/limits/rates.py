"""How often somebody who shows no key may ask: so many times a minute from an address, counted in this process."""

import ipaddress
import threading

from tenants.errors import OverQuota
from tenants.keys.addresses import Address

WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 10_000
# Who has one address of IPv6 has all of its /64.
SHARED_BITS = 64


class Bound:
    """A count for each address, in windows of a minute; it remembers a bounded number of addresses."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._windows: dict[int | None, tuple[float, int]] = {}

    def admit(self, address: Address | None, *, now: float) -> None:
        """Counts one more, or refuses it. `now` in monotonic seconds; who has no address shares one count."""
        with self._lock:
            who = _shared(address)
            began, count = self._windows.pop(who, (now, 0))
            if now - began >= WINDOW_SECONDS:
                began, count = now, 0
            if len(self._windows) >= MOST_ADDRESSES:
                del self._windows[next(iter(self._windows))]  # who has asked for the longest time not
            self._windows[who] = (began, count + 1)
        if count >= self._per_minute:
            raise OverQuota(
                f"From one address {self._per_minute} a minute are taken.", retry_after=began + WINDOW_SECONDS - now
            )


def _shared(address: Address | None) -> int | None:
    if isinstance(address, ipaddress.IPv6Address):
        return int(address) >> SHARED_BITS << SHARED_BITS
    return None if address is None else int(address)
