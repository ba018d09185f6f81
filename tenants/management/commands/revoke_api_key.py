"""`manage.py revoke_api_key TENANT KEY_ID`: ends a key; every process refuses it within a second."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import accounts, scoping
from tenants.errors import Refusal
from tenants.keys import api_keys

ACTOR = "operator:command"


class Command(BaseCommand):
    help = "Ends an API key for good."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="name of the tenant")
        parser.add_argument("key", help="id of the key (key_…)")

    def handle(self, *, tenant: str, key: str, **options: Any) -> None:
        try:
            with scoping.operator():
                row = api_keys.get(tenant=accounts.get_tenant(name=tenant), key_id=key)
                ended_before = row.revoked_at is not None
                api_keys.revoke(key=row, actor=ACTOR, now=timezone.now())
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        self.stdout.write(f"Key {row.name} ({row.pk}) {'was revoked already' if ended_before else 'is revoked'}.")
