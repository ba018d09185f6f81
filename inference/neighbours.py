"""Who asks the other server processes of this host: a piece of memory that the processes share, a row for each.

Each notes whom it serves, and reads of the others only how many were served lately, so a note that is
half written costs a moment of wrong ranks and no more.
"""

import mmap
import os
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator

# Until when nobody is last, and a tenant's checksum and when it was served, by the clock that the processes share.
PAUSE, NOTE = struct.Struct("<d"), struct.Struct("<Qd")
NOTES = 16
ROW_BYTES = PAUSE.size + NOTE.size * NOTES
READ_EVERY_SECONDS = 0.05


def shared_bytes(processes: int) -> int:
    """How large a file so many processes need."""
    return ROW_BYTES * processes


class Neighbours:
    """What this process says to the others on its host, and they to it. Of many tenants the latest are noted."""

    def __init__(self, file: int, *, process: int, processes: int) -> None:
        self._shared = mmap.mmap(file, shared_bytes(processes))
        os.close(file)
        self._own = process * ROW_BYTES
        self._others = [row for row in range(0, len(self._shared), ROW_BYTES) if row != self._own]
        self._places: OrderedDict[str, int] = OrderedDict()
        self._elsewhere = 0
        self._paused_until = 0.0
        self._read_at = 0.0

    def pause(self, until: float) -> None:
        """Says that nobody is to be last until then."""
        PAUSE.pack_into(self._shared, self._own, until)

    def served(self, tenant_id: str, now: float) -> None:
        """Notes whom this process serves."""
        place = self._places.pop(tenant_id, None)
        if place is None:
            place = len(self._places) if len(self._places) < NOTES else self._places.popitem(last=False)[1]
        self._places[tenant_id] = place
        at = self._own + PAUSE.size + place * NOTE.size
        NOTE.pack_into(self._shared, at, _checksum(tenant_id), now)

    def elsewhere(self, tenants: Iterable[str], now: float, *, seconds: float) -> tuple[int, float]:
        """How many tenants that are none of these the others have served in so many seconds, and until when they pause.

        It is as of a moment ago.
        """
        if now - self._read_at >= READ_EVERY_SECONDS:
            self._read_at = now
            lately = {checksum for checksum, served in self._notes() if now - served < seconds}
            self._elsewhere = len(lately - {_checksum(tenant_id) for tenant_id in tenants})
            self._paused_until = max(PAUSE.unpack_from(self._shared, row)[0] for row in self._others)
        return self._elsewhere, self._paused_until

    def _notes(self) -> Iterator[tuple[int, float]]:
        for row in self._others:
            yield from NOTE.iter_unpack(self._shared[row + PAUSE.size : row + ROW_BYTES])


def _checksum(tenant_id: str) -> int:
    return zlib.crc32(tenant_id.encode())
