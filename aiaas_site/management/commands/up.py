"""`manage.py up`: serves the whole site in the foreground until Ctrl-C."""

import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from aiaas_site import demo, up
from aiaas_site.customer import Refused
from aiaas_site.journey import Failed
from aiaas_site.terminal import Terminal


def port_number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise ArgumentTypeError(f"{text!r} is no port; expected a number from 0 (a free one) to 65535")
    return int(text)


class Command(BaseCommand):
    help = "Serves everything in the foreground until Ctrl-C: PostgreSQL if none is named, the server and its workers."
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=port_number, default=8000, help="0: a free one (default: %(default)s)")
        parser.add_argument(
            "--demo", action="store_true", help="have a tenant, a key, a trained model and a deployment ready"
        )

    def handle(self, *, host: str, port: int, demo: bool, **options: Any) -> None:
        terminal = Terminal(sys.stdout)
        try:
            serve(host=host, port=port, with_demo=demo, terminal=terminal)
        except up.Stopped:
            terminal.line("Stopped.")
        except (up.CannotStart, Failed, Refused) as error:
            raise CommandError(str(error)) from error


def serve(*, host: str, port: int, with_demo: bool, terminal: Terminal) -> None:
    """Serves until a signal."""
    with up.running(host=host, port=port, say=terminal.line, settings=demo.SETTINGS if with_demo else None) as site:
        terminal.line(f"API    {site.url}/api/v1/\nDocs   {site.url}/api/docs/\nAdmin  {site.url}/admin/")
        if with_demo:
            demo.READY_FILE.unlink(missing_ok=True)
            terminal.line("\nPreparing the demo:")
            demo.prepare(url=site.url, terminal=terminal)
            terminal.line(f"Ready: the key and the admin's password are in {demo.READY_FILE}")
        terminal.line("Ctrl-C stops it.")
        while True:
            signal.pause()
