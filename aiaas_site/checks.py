"""System checks: what Django cannot know about this site."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.db import connections

DURABILITIES = ("process", "disk")


@register(Tags.database)
def role_is_held_by_row_security(
    *, app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """A superuser, or a role with BYPASSRLS, would see every tenant's rows whatever the policies say."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
            role, is_superuser, bypasses = cursor.fetchone()
        if is_superuser or bypasses:
            what = "a superuser" if is_superuser else "allowed to bypass row-level security"
            hint = f"Name another role in DATABASE_URL, or: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS."
            found.append(
                checks.Critical(
                    f"The database role {role!r} is {what}: tenants would not be kept apart.",
                    hint=hint,
                    id="aiaas_site.E001",
                )
            )
    return found


@register()
def durability_is_known(*, app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """A typing mistake must not weaken the ledger's promise in silence."""
    if settings.METERING_DURABILITY in DURABILITIES:
        return []
    message = f"METERING_DURABILITY is {settings.METERING_DURABILITY!r}; expected {' or '.join(DURABILITIES)}."
    return [checks.Error(message, id="aiaas_site.E002")]


@register(Tags.security, deploy=True)
def place_is_production(*, app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Outside production, secrets are drawn into `var/` and keys are marked as local."""
    if settings.PRODUCTION:
        return []
    return [checks.Warning("AIAAS_ENV is not 'production'.", hint="Set AIAAS_ENV=production.", id="aiaas_site.W001")]
