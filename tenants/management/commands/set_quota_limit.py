"""`manage.py set_quota_limit TENANT`: the operator's limit for a tenant, one of its keys or one of its deployments."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import accounts, scoping
from tenants.errors import NotFound, Refusal
from tenants.limits import quota_limits
from tenants.models import Period, QuotaLimit, QuotaMeter, SetBy

ACTOR = "operator:command"


class Command(BaseCommand):
    help = "Sets a limit in the place of what the plan says, also above it; or takes it away."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="name of the tenant")
        parser.add_argument("--scope", default=quota_limits.TENANT, help="tenant (default), key:ID or deployment:NAME")
        parser.add_argument("--meter", default=str(QuotaMeter.PREDICTIONS), choices=QuotaMeter.values)
        parser.add_argument("--period", required=True, choices=Period.values, help="always for concurrency")
        parser.add_argument("--limit", required=True, help="a whole number, or none to take the operator's limit away")

    def handle(self, *, tenant: str, scope: str, meter: str, period: str, limit: str, **options: Any) -> None:
        place = {"scope": scope, "meter": meter, "period": period}
        try:
            with scoping.operator():
                owner = accounts.get_tenant(name=tenant)
                if limit == "none":
                    row = QuotaLimit.objects.for_tenant(owner).filter(set_by=SetBy.OPERATOR, **place).first()
                    if row is None:
                        raise NotFound(f"The operator has set no limit for {scope} {meter} {period} of {tenant}.")
                    quota_limits.remove(limit=row, side=SetBy.OPERATOR, actor=ACTOR)
                else:
                    quota_limits.put(
                        tenant=owner, limit=int(limit) if limit.isdecimal() else limit, set_by=SetBy.OPERATOR,
                        actor=ACTOR, now=timezone.now(), **place,
                    )  # fmt: skip
                holds = quota_limits.of(owner).get((scope, meter, period))
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        said = f"{holds.limit:,} (set by the {holds.set_by})" if holds and holds.limit is not None else "none"
        self.stdout.write(f"The limit of {tenant} for {scope} {meter} {period} is now: {said}.")
