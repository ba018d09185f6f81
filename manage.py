#!/usr/bin/env python
"""Django's command line; without DATABASE_URL it starts the embedded PostgreSQL first."""

import os
import sys

COMMANDS_WITHOUT_DATABASE = {"help", "version", "spectacular", "collectstatic", "--help", "--version"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aiaas_site.settings")
    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    if command not in COMMANDS_WITHOUT_DATABASE and "--help" not in sys.argv:
        from aiaas_site import embedded_database

        embedded_database.ensure_started()

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
