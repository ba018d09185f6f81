"""System checks of the settings: what Django cannot know about this site."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register

from tenants.keys import addresses

DURABILITIES = ("process", "disk")


@register()
def durability_is_known(*, app_configs: Sequence[AppConfig] | None, **options: Any) -> list[CheckMessage]:
    """A typing mistake must not weaken the ledger's promise in silence."""
    return _one_of(DURABILITIES, setting="METERING_DURABILITY", check_id="aiaas_site.E001")


@register()
def proxies_are_networks(*, app_configs: Sequence[AppConfig] | None, **options: Any) -> list[CheckMessage]:
    """What cannot be read must not come out at the first key that is bound to networks."""
    try:
        for text in settings.TRUSTED_PROXIES:
            addresses.network(text)
    except ValueError as error:
        return [checks.Error(f"TRUSTED_PROXIES: {error}", id="aiaas_site.E002")]
    return []


@register(Tags.security, deploy=True)
def place_is_production(*, app_configs: Sequence[AppConfig] | None, **options: Any) -> list[CheckMessage]:
    """Outside production, secrets are drawn into `var/` and keys are marked as local."""
    if settings.PRODUCTION:
        return []
    return [checks.Warning("AIAAS_ENV is not 'production'.", hint="Set AIAAS_ENV=production.", id="aiaas_site.W001")]


@register(Tags.security, deploy=True)
def webhooks_stay_outside(*, app_configs: Sequence[AppConfig] | None, **options: Any) -> list[CheckMessage]:
    """What lets a developer's machine receive webhooks would let customers reach into the operator's network."""
    if not settings.WEBHOOK_ALLOW_PRIVATE:
        return []
    message = "WEBHOOK_ALLOW_PRIVATE is on: customers can have requests sent to private addresses."
    return [checks.Error(message, hint="Unset WEBHOOK_ALLOW_PRIVATE.", id="aiaas_site.E003")]


@register()
def webhook_lease_outlasts_a_try(*, app_configs: Sequence[AppConfig] | None, **options: Any) -> list[CheckMessage]:
    """A lease that ends while its try still runs would have each slow webhook sent twice."""
    if settings.WEBHOOK_LEASE_SECONDS > settings.WEBHOOK_TIMEOUT_SECONDS > 0:
        return []
    message = (
        f"WEBHOOK_LEASE_SECONDS is {settings.WEBHOOK_LEASE_SECONDS:g}; "
        f"expected more than WEBHOOK_TIMEOUT_SECONDS, which is {settings.WEBHOOK_TIMEOUT_SECONDS:g} and not below 0."
    )
    return [checks.Error(message, id="aiaas_site.E004")]


def _one_of(expected: Sequence[str], *, setting: str, check_id: str) -> list[CheckMessage]:
    value = getattr(settings, setting)
    if value in expected:
        return []
    return [checks.Error(f"{setting} is {value!r}; expected {' or '.join(expected)}.", id=check_id)]
