"""The watch over new versions: one that fails or is slow beyond its owner's bounds is rolled back by itself.

Each server process watches the requests that it answers itself. The first that sees the bounds passed rolls back; the
verb changes nothing if the version takes no requests any more.
"""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db import DatabaseError, InterfaceError, close_old_connections
from django.utils import timezone

from inference import deployments
from inference.plane.directory import DeploymentEntry, Directory, VersionEntry
from inference.plane.statistics import Key, Statistics, Tally, quantile
from tenants import scoping
from tenants.errors import Refusal
from tenants.models import Tenant

ACTOR = "system:auto-rollback"
# A window is looked at in so many steps.
STEPS = 60
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A version to roll back, and why."""

    tenant_id: str
    deployment: str
    version_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What a tally had counted at a moment, in monotonic seconds."""

    at: float
    requests: int
    faults: int
    histogram: tuple[int, ...]


@dataclass(slots=True)
class Watched:
    """The marks of a version's window, oldest first, and whether its verdict has been given."""

    marks: deque[Mark] = field(default_factory=deque)
    judged: bool = False


class Watch:
    """The windows of this process."""

    def __init__(self, statistics: Statistics, directory: Directory) -> None:
        self._statistics = statistics
        self._directory = directory
        self._watched: dict[Key, Watched] = {}

    def due(self, now: float) -> list[Verdict]:
        """The versions whose bounds are passed, each once."""
        found = []
        seen = set()
        for deployment, version in self._new_versions():
            key = (version.tenant_id, deployment.name, version.label)
            seen.add(key)
            reason = self._judge(key, deployment, now)
            if reason:
                found.append(Verdict(version.tenant_id, deployment.name, version.id, reason))
        for key in self._watched.keys() - seen:
            del self._watched[key]
        return found

    def _new_versions(self) -> Iterator[tuple[DeploymentEntry, VersionEntry]]:
        for deployment in self._directory.deployments():
            if deployment.bounds is not None:
                for version in [one for one, _ in deployment.canaries] or [deployment.version]:
                    yield deployment, version

    def _judge(self, key: Key, deployment: DeploymentEntry, now: float) -> str:
        bounds = deployment.bounds
        assert bounds is not None
        tally = self._statistics.of(key)
        watched = self._watched.setdefault(key, Watched())
        marks = watched.marks
        if not marks:
            marks.append(_mark(tally, now))
            return ""
        while len(marks) > 1 and now - marks[1].at >= bounds.window_seconds:
            marks.popleft()
        latest, oldest = _mark(tally, now), marks[0]
        if now - marks[-1].at >= bounds.window_seconds / STEPS:
            marks.append(latest)
        requests = latest.requests - oldest.requests
        if watched.judged or requests < bounds.minimum_requests:
            return ""
        reason = _passed(oldest, latest, error_rate=bounds.error_rate, p99_ms=bounds.p99_ms)
        watched.judged = bool(reason)
        return reason


def _mark(tally: Tally, now: float) -> Mark:
    return Mark(now, tally.requests + tally.faults, tally.faults, tuple(tally.histogram))


def _passed(oldest: Mark, latest: Mark, *, error_rate: float | None, p99_ms: int | None) -> str:
    """Which bound was passed between two marks, in words; none if none was."""
    requests, faults = latest.requests - oldest.requests, latest.faults - oldest.faults
    if error_rate is not None and faults > error_rate * requests:
        return f"{faults} of {requests} requests failed; the bound is {error_rate:.2%}."
    if p99_ms is not None:
        found = quantile([b - a for a, b in zip(oldest.histogram, latest.histogram, strict=True)], 0.99)
        if found is not None and found > p99_ms:
            return f"The p99 of {requests} requests was {found:.1f} ms; the bound is {p99_ms} ms."
    return ""


def roll_back(verdict: Verdict) -> None:
    """Carries a verdict out, in a thread; one that comes too late changes nothing."""
    try:
        with scoping.operator():
            tenant = Tenant.objects.get(pk=verdict.tenant_id)
            deployments.roll_back(
                tenant=tenant, name=verdict.deployment, actor=ACTOR, now=timezone.now(),
                expected=verdict.version_id, reason=verdict.reason,
            )  # fmt: skip
        logger.warning("%s of %s was rolled back: %s", verdict.deployment, verdict.tenant_id, verdict.reason)
    except Refusal as refusal:
        logger.warning("%s of %s is not rolled back: %s", verdict.deployment, verdict.tenant_id, refusal)
    except (DatabaseError, InterfaceError):
        logger.exception("%s of %s could not be rolled back", verdict.deployment, verdict.tenant_id)
    finally:
        close_old_connections()
