"""Sends webhooks, until it is told to stop."""

from typing import Any

from django.core.management.base import BaseCommand

from tenants.webhooks.sender import Sender


class Command(BaseCommand):
    """SIGTERM has what is at hand sent to its end; what a killed sender had at hand is sent again by the next one."""

    help = "Posts notices to the webhook endpoints of tenants, and tries again what failed."

    def handle(self, *args: Any, **options: Any) -> None:
        self.check(databases=["default"])
        Sender().run_forever()
