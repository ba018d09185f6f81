"""`manage.py replay_webhooks TENANT --delivery ID` or `… --endpoint ID --since TIME`: sends webhooks again."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import accounts, scoping
from tenants.errors import Refusal
from tenants.models import Tenant
from tenants.webhooks import deliveries, endpoints

ACTOR = "operator:command"


def moment(text: str) -> datetime:
    """A time as ISO 8601 has it; UTC unless it says other."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no time; expected one as 2026-11-25 or 2026-11-25T13:00:00Z") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Command(BaseCommand):
    help = "Sends a webhook delivery again, or all that an endpoint missed since a time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="name of the tenant")
        parser.add_argument("--delivery", metavar="ID", help="one delivery (dlv_…)")
        parser.add_argument("--endpoint", metavar="ID", help="an endpoint (whe_…), with --since")
        parser.add_argument("--since", type=moment, help="what happened from then on")
        parser.add_argument("--delivered-too", action="store_true", help="also what was taken already")

    def handle(self, *, tenant: str, delivery: str | None, endpoint: str | None, **options: Any) -> None:
        since: datetime | None = options["since"]
        if bool(delivery) == bool(endpoint) or bool(endpoint) != bool(since):
            raise CommandError("Expected --delivery ID, or --endpoint ID with --since TIME.")
        try:
            with scoping.operator():
                whose = accounts.get_tenant(name=tenant)
                if delivery:
                    count = self._replay(whose, delivery)
                elif endpoint and since:
                    count = self._replay_since(whose, endpoint, since, options["delivered_too"])
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        self.stdout.write(f"{count} deliveries are sent (again).")

    def _replay(self, tenant: Tenant, delivery_id: str) -> int:
        row = deliveries.get(tenant=tenant, delivery_id=delivery_id)
        deliveries.replay(delivery=row, actor=ACTOR, now=timezone.now())
        return 1

    def _replay_since(self, tenant: Tenant, endpoint_id: str, since: datetime, delivered_too: bool) -> int:
        row = endpoints.get(tenant=tenant, endpoint_id=endpoint_id)
        return deliveries.replay_since(
            endpoint=row, since=since, delivered_too=delivered_too, actor=ACTOR, now=timezone.now()
        )
