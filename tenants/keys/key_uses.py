"""When each key was last used: gathered in memory, and written by a thread, for a key at most once a minute."""

import logging
import threading
from datetime import UTC, datetime

from django.db import DatabaseError, InterfaceError, connection

from tenants import scoping

EXACT_TO_SECONDS = 60
WRITE_SECONDS = 2.0
# A row that somebody else holds is left: he writes the same, or the next use will.
WRITE = """
UPDATE tenants_apikey AS api_key SET last_used_at = used.at
FROM (
    SELECT one.id, noted.at FROM tenants_apikey AS one JOIN unnest(%s::text[], %s::timestamptz[]) AS noted(id, at)
        ON one.id = noted.id
    WHERE one.last_used_at IS NULL OR one.last_used_at <= noted.at - make_interval(secs => %s)
    FOR NO KEY UPDATE OF one SKIP LOCKED
) AS used
WHERE api_key.id = used.id
"""
logger = logging.getLogger(__name__)

_noted: dict[str, float] = {}
_written: dict[str, float] = {}


def note(key_id: str, now: float) -> None:
    """Remembers that a key is used, without a query or a lock. `now` in Unix seconds."""
    _noted[key_id] = now


def write() -> int:
    """Writes down, in one statement, what was noted and is a minute from what is written; how many rows it changed.

    What cannot be written is noted again. One thread of a process calls this.
    """
    # Popped one by one: whoever notes meanwhile loses nothing.
    taken = {key_id: at for key_id in tuple(_noted) if (at := _noted.pop(key_id, None)) is not None}
    new = {key_id: at for key_id, at in taken.items() if at >= _written.get(key_id, 0) + EXACT_TO_SECONDS}
    if not new:
        return 0
    try:
        changed = _update(new)
    except (DatabaseError, InterfaceError):
        for key_id, at in new.items():
            _noted.setdefault(key_id, at)
        raise
    oldest = max(new.values()) - EXACT_TO_SECONDS
    for key_id in [key_id for key_id, at in _written.items() if at < oldest]:
        del _written[key_id]
    _written.update(new)
    return changed


def _update(used: dict[str, float]) -> int:
    times = [datetime.fromtimestamp(at, UTC) for at in used.values()]
    with scoping.operator(), connection.cursor() as cursor:
        cursor.execute(WRITE, [list(used), times, EXACT_TO_SECONDS])
        return int(cursor.rowcount)


class Writer:
    """The thread of a process that writes, from `start` to `stop`."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="key-uses", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Writes what is there, and ends."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(WRITE_SECONDS):
                self._write()
            self._write()
        finally:
            connection.close()

    def _write(self) -> None:
        try:
            write()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("when keys were used is written later: %s", str(error).strip())
            connection.close()
        except Exception:
            logger.exception("when keys were used could not be written")
            connection.close()
