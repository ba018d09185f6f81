"""Measurements of a version's engines: taken once on hosts of a kind, kept with the version, read when it is loaded.

Processes of one host measure one after another, because two that measure at once would measure each other. What was
measured beside other work serves for a while, and is measured again at a later load.
"""

import contextlib
import fcntl
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections
from django.utils import timezone

from inference.engines import measuring, measuring_process
from inference.engines.measuring import Asked, Candidate, Measured, Times
from inference.models import EngineMeasurement
from tenants import scoping

LOCK = "measuring.lock"
AGAIN_AFTER = timedelta(minutes=10)
logger = logging.getLogger(__name__)


def measured(
    *,
    tenant_id: str,
    version_id: str,
    candidates: list[Candidate],
    path_of: Callable[[Candidate], Path],
    asked: Asked,
) -> Measured:
    """Which candidate serves on this host and how; measured now if hosts of its kind have not done so before."""
    table = _kept(version_id, candidates)
    if table is None:
        with _alone_on_this_host():
            table = _kept(version_id, candidates)  # another process may have been at it
            if table is None:
                before = measuring.disturbance()
                paths = {candidate: path_of(candidate) for candidate in candidates}
                table = measuring_process.measure(paths, asked)
                disturbance = max(before, measuring.disturbance())
                _keep(
                    tenant_id=tenant_id, version_id=version_id, table=table, disturbance=disturbance,
                    now=timezone.now(),
                )  # fmt: skip
    return measuring.chosen(table)


def _kept(version_id: str, candidates: list[Candidate]) -> list[Times] | None:
    """What is known of exactly these candidates; none also if the database does not say."""
    try:
        with scoping.operator():
            row = EngineMeasurement.across_tenants.filter(version_id=version_id, host=measuring.host()).first()
    except (DatabaseError, InterfaceError):
        logger.exception("the measurement of %s could not be read", version_id)
        return None
    finally:
        close_old_connections()
    if row is None or (row.disturbance > measuring.QUIET and timezone.now() - row.measured_at > AGAIN_AFTER):
        return None
    table = measuring.from_json(row.table)
    able = any(times.seconds for times in table)
    return table if able and [times.candidate for times in table] == candidates else None


def _keep(*, tenant_id: str, version_id: str, table: list[Times], disturbance: float, now: datetime) -> None:
    """Keeps a table in which something runs; what cannot be kept is measured again at the next load."""
    if not any(times.seconds for times in table):
        return
    found = measuring.chosen(table)
    values = {
        "table": measuring.as_json(table),
        "engine": found.candidate.engine,
        "file": found.candidate.file,
        "best_batch": found.best_rows,
        "threads_of_a_lone_request": found.alone_threads,
        "disturbance": disturbance,
        "measured_at": now,
    }
    try:
        with scoping.operator():
            EngineMeasurement.objects.for_tenant(tenant_id).update_or_create(
                version_id=version_id,
                host=measuring.host(),
                defaults=values,
                create_defaults=values | {"tenant_id": tenant_id},
            )
    except (DatabaseError, InterfaceError):
        logger.exception("the measurement of %s could not be kept", version_id)
    finally:
        close_old_connections()


@contextlib.contextmanager
def _alone_on_this_host() -> Iterator[None]:
    folder = Path(settings.SCRATCH_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
