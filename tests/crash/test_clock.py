"""A host whose clock is an hour off, and is set, across the end of a month: usage is of the database's hours."""

import contextlib
import time
from datetime import UTC, datetime, timedelta

import psycopg2

from tests.crash import oracle
from tests.crash.conftest import CrashSite, stop

# The end of the month that the host's clock lives through.
END = datetime(2026, 3, 1, tzinfo=UTC)
LEDGER = """
SELECT (SELECT watermark FROM tenants_usageproducer ORDER BY seen_at DESC NULLS LAST LIMIT 1),
       (SELECT min(first_event_at) FROM tenants_usagesegment WHERE arrived_at > %(since)s),
       (SELECT max(arrived_at) FROM tenants_usagesegment)
"""


def test_whatever_the_hosts_clock_is_set_to_across_a_months_end_usage_is_of_the_databases_hours(at: CrashSite) -> None:
    """None of it goes into another month, and none is late for what was called complete."""
    file = at.site.var / "clock"

    def set_clock(moment: datetime) -> None:
        draft = file.with_suffix(".new")
        draft.write_text(str(moment.timestamp() - time.time()))
        draft.replace(file)

    before = {event[0] for event in oracle.read(at.site).events}
    begun = time.time()
    set_clock(END - timedelta(hours=1, seconds=4))
    server = at.site.start_server(
        module="tests.crash.faulty_server", FAULTY_CLOCK=str(file), INFERENCE_DEADLINE_SECONDS="1"
    )
    with at.journal(callers=4).running() as journal, Watcher(at) as watcher:
        for moment in (END - timedelta(seconds=3), END + timedelta(hours=1), END - timedelta(minutes=30)):
            journal.wait_for(100)
            watcher.watch(3)
            set_clock(moment)
        journal.wait_for(100)
        watcher.watch(10)
        assert watcher.watermark is not None
        assert watcher.watermark.timestamp() > begun  # it moves on
        assert watcher.late == []
    stop(server)
    ledger = oracle.check(at.site, journal.acknowledged)
    moments = [event[1] / 1000 for event in ledger.events if event[0] not in before and "requests" in event[6]]
    assert begun - 1 <= min(moments)
    assert max(moments) <= time.time() + 1


class Watcher:
    """Looks at the ledger: a segment with an event of before a watermark that had been told was not complete."""

    def __init__(self, at: CrashSite) -> None:
        self._at = at
        self.watermark: datetime | None = None
        self.late: list[tuple[datetime, datetime]] = []
        self._since: datetime | None = None

    def __enter__(self) -> "Watcher":
        self._connection = psycopg2.connect(self._at.site.server.get_uri(database=self._at.site.database))
        self._connection.autocommit = True
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def watch(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.closing(self._connection.cursor()) as cursor:
                cursor.execute(LEDGER, {"since": self._since})
                watermark, first, since = cursor.fetchone() or (None, None, None)
            if first is not None and self.watermark is not None and first < self.watermark:
                self.late.append((first, self.watermark))
            self.watermark, self._since = watermark, since
            time.sleep(0.1)
