"""Deployments: the verbs. Each is one change with its row in the audit trail."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Prefetch, QuerySet

from inference.models import Deployment, DeploymentLabel, DeploymentTarget
from modelhub.models import ModelVersion
from tenants import audit, notices
from tenants.errors import Conflict, FieldError, Invalid, NotFound
from tenants.models import Tenant

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,58}[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,58}[A-Za-z0-9])?")
MOST_TARGETS = 10
SETTINGS = (
    "sticky", "requests_per_minute", "concurrency", "rows_per_request", "queue_rows", "cache_seconds",
    "rollback_error_rate", "rollback_p99_ms", "rollback_window_seconds", "rollback_minimum_requests",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Share:
    """A version and the percent of the requests that it takes; no model means the deployment's own."""

    number: int
    weight: int
    model: str | None = None


def create(*, tenant: Tenant, name: str, model: str, number: int, actor: str, now: datetime) -> Deployment:
    """Serves a version under a name that is free."""
    if not NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} cannot be the name of a deployment.",
            errors=(
                FieldError(
                    "name",
                    "Expected 1 to 60 of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit.",
                ),
            ),
        )
    version = _version(tenant, model, number)
    try:
        with transaction.atomic():
            row = Deployment.objects.create(tenant=tenant, name=name, version=version, created_at=now, updated_at=now)
    except IntegrityError as error:
        raise Conflict(f"There is a deployment {name!r} already; PATCH it to point it to another version.") from error
    audit.record(tenant=tenant, actor=actor, verb="deployment.create", subject=name, version=str(version))
    return row


@transaction.atomic
def point(*, tenant: Tenant, name: str, model: str | None, number: int, actor: str, now: datetime) -> Deployment:
    """Serves one version alone under the name; `model` may stay as it is. What it served before is kept to go back."""
    row = get(tenant=tenant, name=name, lock=True)
    before = str(row.version)
    version = _version(tenant, model or row.version.model.name, number)
    _end_split(row)
    _become(row, version, previous=row.version, now=now)
    audit.record(
        tenant=tenant, actor=actor, verb="deployment.point", subject=name, before=before, after=str(row.version)
    )
    return row


@transaction.atomic
def split(*, tenant: Tenant, name: str, shares: list[Share], actor: str, now: datetime) -> Deployment:
    """Shares the requests out over versions; the weights are percents and their sum is 100.

    The version that is main stays so if it is among them, for a roll-back to return to; else the first becomes it.
    """
    row = get(tenant=tenant, name=name, lock=True)
    _check_shares(shares)
    wanted = [(_version(tenant, one.model or row.version.model.name, one.number), one.weight) for one in shares]
    if len({version.pk for version, _ in wanted}) < len(wanted):
        raise _wrong_targets("A version is named twice in the targets.", "Expected each version once.")
    main = next((version for version, _ in wanted if version.pk == row.version_id), wanted[0][0])
    _end_split(row)
    for version, weight in wanted:
        if version.pk != main.pk:
            DeploymentTarget.objects.create(tenant=tenant, deployment=row, version=version, weight=weight)
    _become(row, main, previous=row.version, now=now)
    audit.record(
        tenant=tenant, actor=actor, verb="deployment.split", subject=name,
        targets={str(version): weight for version, weight in wanted},
    )  # fmt: skip
    return row


@transaction.atomic
def promote(*, tenant: Tenant, name: str, number: int | None, actor: str, now: datetime) -> Deployment:
    """Ends the split in favour of a canary: the only one, or the one whose version is given."""
    row = get(tenant=tenant, name=name, lock=True)
    canaries = [one.version for one in row.targets.all() if number is None or one.version.number == number]
    if len(canaries) != 1:
        raise Conflict(
            f"{name!r} has {len(canaries) or 'no'} canaries{'' if number is None else f' of version {number}'}; "
            "expected one to promote."
        )
    before = str(row.version)
    _end_split(row)
    _become(row, canaries[0], previous=row.version, now=now)
    audit.record(
        tenant=tenant, actor=actor, verb="deployment.promote", subject=name, before=before, after=str(row.version)
    )
    return row


@transaction.atomic
def roll_back(
    *, tenant: Tenant, name: str, actor: str, now: datetime, expected: str | None = None, reason: str = ""
) -> Deployment:
    """Ends the split, or, where there is none, serves the version before; the same call again is refused.

    `expected` is the id of the version that is rolled back, a canary's or the main one's: if that version takes no
    requests any more, someone was faster, and nothing is changed. Who gives a `reason` rolls back of himself, as the
    watch does: the tenant is told of it.
    """
    row = get(tenant=tenant, name=name, lock=True)
    canaries = [one.version for one in row.targets.all()]
    leaving = canaries or [row.version]
    if expected is not None and expected not in {version.pk for version in leaving}:
        raise Conflict(f"{name!r} was changed meanwhile; the version to roll back takes no requests any more.")
    back_to = row.version if canaries else row.previous
    if back_to is None:
        raise Conflict(f"{name!r} has no version before {row.version}, and no split to end; PATCH its version.")
    _end_split(row)
    _become(row, back_to, previous=None, now=now)
    audit.record(
        tenant=tenant, actor=actor, verb="deployment.roll_back", subject=name,
        before=[str(version) for version in leaving], after=str(back_to), reason=reason,
    )  # fmt: skip
    if reason:
        notices.announce(
            tenant=tenant, kind="deployment.rolled_back", once=f"{row.pk}:{now.isoformat()}", deployment=name,
            before=[str(version) for version in leaving], after=str(back_to), reason=reason,
        )  # fmt: skip
    return row


@transaction.atomic
def label(
    *, tenant: Tenant, name: str, label: str, model: str | None, number: int, actor: str, now: datetime
) -> Deployment:
    """Gives a version a name of the customer's, or moves the name to it; clients call it at `…/labels/LABEL`."""
    row = get(tenant=tenant, name=name, lock=True)
    if not LABEL.fullmatch(label):
        raise Invalid(
            f"{label!r} cannot be a label.",
            errors=(FieldError("label", "Expected 1 to 60 letters, digits, '.', '_' and '-'."),),
        )
    version = _version(tenant, model or row.version.model.name, number)
    DeploymentLabel.objects.for_tenant(tenant).update_or_create(
        deployment=row,
        name=label,
        defaults={"version": version},
        create_defaults={"version": version, "tenant": tenant},
    )
    _touch(row, now)
    audit.record(tenant=tenant, actor=actor, verb="deployment.label", subject=name, label=label, version=str(version))
    return row


@transaction.atomic
def unlabel(*, tenant: Tenant, name: str, label: str, actor: str, now: datetime) -> None:
    """Takes a label away."""
    row = get(tenant=tenant, name=name, lock=True)
    removed, _ = DeploymentLabel.objects.for_tenant(tenant).filter(deployment=row, name=label).delete()
    if not removed:
        raise NotFound(f"{name!r} has no label {label!r}.")
    _touch(row, now)
    audit.record(tenant=tenant, actor=actor, verb="deployment.unlabel", subject=name, label=label)


@transaction.atomic
def shadow(
    *, tenant: Tenant, name: str, model: str | None, number: int | None, actor: str, now: datetime
) -> Deployment:
    """Has a version asked beside the one that answers; no number ends it."""
    row = get(tenant=tenant, name=name, lock=True)
    row.shadow = None if number is None else _version(tenant, model or row.version.model.name, number)
    _touch(row, now)
    audit.record(
        tenant=tenant,
        actor=actor,
        verb="deployment.shadow",
        subject=name,
        version=str(row.shadow) if row.shadow else None,
    )
    return row


def pause(*, tenant: Tenant, name: str, actor: str, now: datetime) -> Deployment:
    """Refuses the predictions of a deployment until it is resumed; paused already, it stays so."""
    return _set_paused(tenant, name, paused=True, verb="deployment.pause", actor=actor, now=now)


def resume(*, tenant: Tenant, name: str, actor: str, now: datetime) -> Deployment:
    """Answers predictions again."""
    return _set_paused(tenant, name, paused=False, verb="deployment.resume", actor=actor, now=now)


@transaction.atomic
def limit(*, tenant: Tenant, name: str, settings: Mapping[str, Any], actor: str, now: datetime) -> Deployment:
    """Sets some of SETTINGS: limits, the cache's time, stickiness, and the bounds of the automatic roll-back."""
    row = get(tenant=tenant, name=name, lock=True)
    for field, value in settings.items():
        if field not in SETTINGS:
            raise Invalid(f"{field!r} is no setting of a deployment; expected one of {', '.join(SETTINGS)}.")
        setattr(row, field, value)
    _touch(row, now)
    audit.record(tenant=tenant, actor=actor, verb="deployment.limit", subject=name, **settings)
    return row


def delete(*, tenant: Tenant, name: str, actor: str) -> None:
    """Ends the service under the name; the versions stay in the registry."""
    get(tenant=tenant, name=name, lock=True).delete()
    audit.record(tenant=tenant, actor=actor, verb="deployment.delete", subject=name)


def get(*, tenant: Tenant, name: str, lock: bool = False) -> Deployment:
    """The tenant's deployment of this name."""
    rows = with_versions(Deployment.objects.for_tenant(tenant)).filter(name=name)
    row = (rows.select_for_update(of=("self",)) if lock else rows).first()
    if row is None:
        raise NotFound(f"There is no deployment {name!r}.")
    return row


def existing(tenant: Tenant, names: Collection[str]) -> set[str]:
    """Which of these names are those of deployments of the tenant."""
    return set(Deployment.objects.for_tenant(tenant).filter(name__in=names).values_list("name", flat=True))


def exists(tenant: Tenant, name: str) -> bool:
    """Whether the tenant has a deployment of this name."""
    return Deployment.objects.for_tenant(tenant).filter(name=name).exists()


def with_versions(rows: QuerySet[Deployment]) -> QuerySet[Deployment]:
    """The deployments with all versions that they name, in three queries."""
    return rows.select_related("version__model", "previous__model", "shadow__model").prefetch_related(
        Prefetch("targets", DeploymentTarget.across_tenants.select_related("version__model").order_by("id")),
        Prefetch("labels", DeploymentLabel.across_tenants.select_related("version__model").order_by("name")),
    )


def _set_paused(tenant: Tenant, name: str, *, paused: bool, verb: str, actor: str, now: datetime) -> Deployment:
    with transaction.atomic():
        row = get(tenant=tenant, name=name, lock=True)
        if row.paused != paused:
            row.paused = paused
            _touch(row, now)
            audit.record(tenant=tenant, actor=actor, verb=verb, subject=name)
        return row


def _check_shares(shares: list[Share]) -> None:
    total = sum(one.weight for one in shares)
    if not 1 <= len(shares) <= MOST_TARGETS:
        raise _wrong_targets(f"There are {len(shares)} targets.", f"Expected 1 to {MOST_TARGETS}.")
    if total != 100 or any(one.weight < 1 for one in shares):
        raise _wrong_targets(f"The weights add up to {total}.", "Expected whole percents from 1 that add up to 100.")


def _wrong_targets(detail: str, expected: str) -> Invalid:
    return Invalid(f"{detail} {expected}", errors=(FieldError("targets", expected),))


def _end_split(row: Deployment) -> None:
    DeploymentTarget.objects.for_tenant(row.tenant_id).filter(deployment=row).delete()


def _become(row: Deployment, version: ModelVersion, *, previous: ModelVersion | None, now: datetime) -> None:
    """Makes a version the main one; pointed to what it is already, the deployment keeps its way back."""
    if version.pk != row.version_id:
        row.version, row.previous = version, previous
    _touch(row, now)


def _touch(row: Deployment, now: datetime) -> None:
    row.updated_at = now
    row.save()
    for name in ("targets", "labels"):
        getattr(row, "_prefetched_objects_cache", {}).pop(name, None)


def _version(tenant: Tenant, model: str, number: int) -> ModelVersion:
    version = (
        ModelVersion.objects.for_tenant(tenant).select_related("model").filter(model__name=model, number=number).first()
    )
    if version is None:
        raise Invalid(
            f"There is no version {number} of a model {model!r}.",
            errors=(FieldError("version", "Expected the number of a version in the registry."),),
        )
    return version
