"""`manage.py revenue_report`: a report over all tenants, as the operator's pages show it."""

from argparse import ArgumentParser
from datetime import UTC, date
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import scoping
from tenants.errors import Refusal
from tenants.management.arguments import month
from tenants.reports import operator_reports, report_tables


class Command(BaseCommand):
    help = "What was billed over all tenants: by month and plan, by tenant, what is unpaid, and against compute."

    def add_arguments(self, parser: ArgumentParser) -> None:
        kinds = "; ".join(f"{kind}: {name.lower()}" for kind, name in operator_reports.KINDS.items())
        parser.add_argument("--kind", choices=list(operator_reports.KINDS), default="revenue", help=kinds)
        parser.add_argument("--from", dest="first", type=month, help="the first month, as 2026-11; default: this month")
        parser.add_argument("--to", dest="last", type=month, help="the last month; default: the first")
        parser.add_argument("--format", choices=report_tables.FORMATS, default="table")

    def handle(self, *, kind: str, first: date | None, last: date | None, **options: Any) -> None:
        today = timezone.now().astimezone(UTC).date()
        first = first or today.replace(day=1)
        try:
            with scoping.operator():
                months = operator_reports.months_between(first, last or first)
                table = operator_reports.report(kind=kind, months=months, today=today)
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        report_tables.write(table, form=options["format"], into=self.stdout)
