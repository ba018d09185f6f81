"""Deployments: the verbs create, point and delete."""

import re
from datetime import datetime

from django.db import IntegrityError, transaction

from inference.models import Deployment
from modelhub.models import ModelVersion
from tenants import audit
from tenants.errors import Conflict, FieldError, Invalid, NotFound
from tenants.models import Tenant

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,58}[a-z0-9])?")


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


def point(*, tenant: Tenant, name: str, model: str | None, number: int, actor: str, now: datetime) -> Deployment:
    """Serves another version under the name; `model` may stay as it is."""
    row = get(tenant=tenant, name=name, lock=True)
    before = str(row.version)
    row.version = _version(tenant, model or row.version.model.name, number)
    row.updated_at = now
    row.save(update_fields=["version", "updated_at"])
    audit.record(
        tenant=tenant, actor=actor, verb="deployment.point", subject=name, before=before, after=str(row.version)
    )
    return row


def delete(*, tenant: Tenant, name: str, actor: str) -> None:
    """Ends the service under the name; the version stays in the registry."""
    get(tenant=tenant, name=name, lock=True).delete()
    audit.record(tenant=tenant, actor=actor, verb="deployment.delete", subject=name)


def get(*, tenant: Tenant, name: str, lock: bool = False) -> Deployment:
    """The tenant's deployment of this name."""
    rows = Deployment.objects.for_tenant(tenant).select_related("version__model").filter(name=name)
    row = (rows.select_for_update(of=("self",)) if lock else rows).first()
    if row is None:
        raise NotFound(f"There is no deployment {name!r}.")
    return row


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
