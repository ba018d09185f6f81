"""`manage.py create_api_key TENANT`: makes a key and shows it, once."""

import json
import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import accounts, scoping
from tenants.errors import Refusal
from tenants.keys import api_keys

ACTOR = "operator:command"
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def duration(text: str) -> timedelta:
    """A length of time as 30m, 12h or 90d."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if not found:
        raise ArgumentTypeError(f"{text!r} is no length of time; expected minutes, hours or days as 30m, 12h or 90d")
    return int(found[1]) * UNITS[found[2]]


def names(text: str) -> list[str]:
    """What stands between the commas."""
    return [name for name in text.replace(" ", "").split(",") if name]


def document(new: api_keys.NewKey) -> dict[str, Any]:
    """A key just made as JSON shows it."""
    row = new.row
    return {
        "id": row.pk,
        "name": row.name,
        "scopes": row.scopes,
        "networks": row.networks,
        "deployments": row.deployments,
        "expires_at": row.expires_at.isoformat() if row.expires_at else None,
        "key": new.text,
    }


class Command(BaseCommand):
    help = "Makes an API key for a tenant and shows it, once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="name of the tenant")
        parser.add_argument("--name", required=True, help="what the key is for")
        parser.add_argument("--scopes", required=True, help=f"some of {','.join(api_keys.SCOPES)}, with commas between")
        parser.add_argument(
            "--networks", type=names, help="the only networks it works from, as 192.0.2.0/24,2001:db8::/32"
        )
        parser.add_argument("--deployments", type=names, help="the names of the only deployments that it may call")
        parser.add_argument("--expires-in", type=duration, help="30m, 12h or 90d; without it the key does not expire")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, tenant: str, name: str, scopes: str, **options: Any) -> None:
        now = timezone.now()
        lifetime: timedelta | None = options["expires_in"]
        try:
            with scoping.operator():
                new = api_keys.create(
                    tenant=accounts.get_tenant(name=tenant),
                    name=name,
                    scopes=names(scopes),
                    networks=options["networks"],
                    deployments=options["deployments"],
                    actor=ACTOR,
                    expires_at=now + lifetime if lifetime else None,
                    now=now,
                )
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        if options["json"]:
            self.stdout.write(json.dumps(document(new)))
            return
        self.stdout.write(f"Created key {name} ({new.row.pk}) of {tenant}. This is the only time it is shown:\n")
        self.stdout.write(new.text)
