"""A server whose clock is an hour off, and is set, across the end of a month."""

import contextlib
import time
from datetime import UTC, datetime, timedelta

import psycopg2

from tests.crash import oracle
from tests.crash.conftest import CrashSite, stop

HOUR = 3600.0
# The end of the month that the server lives through: long past, so that the database's clock is out of the way.
END = datetime(2026, 3, 1, tzinfo=UTC)
LEDGER = """
SELECT (SELECT watermark FROM tenants_usageproducer ORDER BY seen_at DESC NULLS LAST LIMIT 1),
       (SELECT min(first_event_at) FROM tenants_usagesegment WHERE arrived_at > %(since)s),
       (SELECT max(arrived_at) FROM tenants_usagesegment)
"""


def test_no_usage_is_called_complete_before_it_is_though_the_clock_is_set_across_a_months_end(at: CrashSite) -> None:
    file = at.site.var / "clock"

    def set_clock(moment: datetime) -> None:
        draft = file.with_suffix(".new")
        draft.write_text(str(moment.timestamp() - time.time()))
        draft.replace(file)

    set_clock(END - timedelta(hours=1, seconds=4))
    server = at.site.start_server(
        module="tests.crash.faulty_server", FAULTY_CLOCK=str(file), INFERENCE_DEADLINE_SECONDS="1"
    )
    with at.journal(callers=4).running() as journal, Watcher(at) as watcher:
        journal.wait_for(100)
        watcher.watch(1.5)
        set_clock(END - timedelta(seconds=3))  # an hour behind, and set right
        journal.wait_for(20)
        watcher.watch(15)
        assert watcher.watermark is not None
        assert watcher.watermark > END  # the month is complete
        assert watcher.late == []
        set_clock(END - timedelta(minutes=30))  # an hour back: what comes now is late, and counts all the same
        journal.wait_for(100)
    stop(server)
    ledger = oracle.check(at.site, journal.acknowledged)
    hours = {event[1] // 3_600_000 for event in ledger.events}
    end = int(END.timestamp()) // 3600
    assert {end - 2, end - 1, end} <= hours


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
