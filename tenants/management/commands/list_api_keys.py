"""`manage.py list_api_keys TENANT`: a tenant's keys, newest first; never their text."""

import json
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import accounts, scoping
from tenants.errors import Refusal
from tenants.keys import api_keys
from tenants.models import ApiKey


class Command(BaseCommand):
    help = "Lists a tenant's API keys."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="name of the tenant")
        parser.add_argument("--active", action="store_true", help="only keys that work now")
        parser.add_argument("--json", action="store_true", help="print one JSON object a line")

    def handle(self, *, tenant: str, **options: Any) -> None:
        now = timezone.now()
        try:
            with scoping.operator():
                rows = ApiKey.objects.for_tenant(accounts.get_tenant(name=tenant)).order_by("-id")
                found = [one for one in rows if not options["active"] or api_keys.state(one, now=now) == "active"]
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        for row in found:
            told = _told(row, now)
            self.stdout.write(json.dumps(told) if options["json"] else _line(told))


def _told(key: ApiKey, now: datetime) -> dict[str, Any]:
    def moment(at: datetime | None) -> str | None:
        return None if at is None else at.isoformat(timespec="seconds")

    return {
        "id": key.pk,
        "prefix": key.prefix,
        "name": key.name,
        "state": api_keys.state(key, now=now),
        "scopes": key.scopes,
        "networks": key.networks,
        "deployments": key.deployments,
        "expires_at": moment(key.expires_at),
        "last_used_at": moment(key.last_used_at),
        "replaces": key.replaces_id,
    }


def _line(told: dict[str, Any]) -> str:
    """What is none is left out."""
    first = f"{told['id']}  {told['prefix']}…  {told['state']}  {told['name']}"
    more = [
        f"{name}={','.join(value) if isinstance(value, list) else value}"
        for name, value in list(told.items())[4:]
        if value is not None
    ]
    return "  ".join([first, *more])
