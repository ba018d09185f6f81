"""`manage.py demo`: the journey of a customer, from pictures to predictions and a bill."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from aiaas_site import demo, materials, up
from aiaas_site.customer import Refused
from aiaas_site.env import VAR_DIR
from aiaas_site.journey import Failed
from aiaas_site.management.commands.up import port_number
from aiaas_site.materials import NotUsable
from aiaas_site.terminal import Terminal


class Command(BaseCommand):
    help = "Walks through everything as a customer would, over HTTP, on a site that it starts and stops."
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--data", type=Path, metavar="FOLDER", help="pictures as train/<class>/* and validation/<class>/*"
        )
        parser.add_argument("--port", type=port_number, default=0, help="default: a free one")

    def handle(self, *, data: Path | None, port: int, **options: Any) -> None:
        terminal = Terminal(sys.stdout)
        try:
            self._walk(data, port, terminal)
        except up.Stopped as stopped:
            terminal.line("Stopped before the end.")
            sys.exit(stopped.status)
        except (up.CannotStart, Failed, Refused, NotUsable) as error:
            raise CommandError(str(error)) from error

    def _walk(self, data: Path | None, port: int, terminal: Terminal) -> None:
        logs = VAR_DIR / "log"
        if data is not None:
            materials.check(data)
        try:
            with up.running(host="127.0.0.1", port=port, say=terminal.line, logs=logs, settings=demo.SETTINGS) as site:
                terminal.line(f"The site runs at {site.url} while this lasts; its logs are in {logs}.")
                demo.walk(url=site.url, folder=data, terminal=terminal)
        except up.RunningAlready as running:
            terminal.line(f"The site runs already at {running.url}; this uses it.")
            demo.walk(url=running.url, folder=data, terminal=terminal)
