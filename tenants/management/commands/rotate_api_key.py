"""`manage.py rotate_api_key TENANT KEY_ID`: makes a key's successor and shows it, once; the old one ends later."""

import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import accounts, scoping
from tenants.errors import Refusal
from tenants.keys import api_keys
from tenants.management.commands.create_api_key import ACTOR, document, duration


def grace(text: str) -> timedelta:
    """A length of time as 30m, 12h or 90d, or 0."""
    return timedelta(0) if text == "0" else duration(text)


class Command(BaseCommand):
    help = "Makes a new key with the rights of an old one, which goes on working for a while."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="name of the tenant")
        parser.add_argument("key", help="id of the old key (key_…)")
        parser.add_argument(
            "--grace", type=grace, default=api_keys.GRACE, help="so long the old key works on: 30m, 12h, 7d or 0 (24h)"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, tenant: str, key: str, **options: Any) -> None:
        try:
            with scoping.operator():
                old = api_keys.get(tenant=accounts.get_tenant(name=tenant), key_id=key)
                new = api_keys.rotate(key=old, grace=options["grace"], actor=ACTOR, now=timezone.now())
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        if options["json"]:
            self.stdout.write(json.dumps(document(new)))
            return
        self.stdout.write(f"{new.row.pk} replaces {key} of {tenant}. This is the only time it is shown:\n")
        self.stdout.write(new.text)
