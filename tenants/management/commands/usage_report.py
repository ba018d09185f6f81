"""`manage.py usage_report TENANT`: what a tenant used, as its own usage report has it."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tenants import accounts, pricing, scoping
from tenants.errors import Refusal
from tenants.management.arguments import month
from tenants.models import Tenant
from tenants.reports import report_tables, usage_csv, usage_reports
from tenants.reports.report_tables import Table
from tenants.reports.usage_reports import GROUPS, MOST_DAYS, WIDTHS, Report, Total


def groups(text: str) -> tuple[str, ...]:
    """Groups with commas between, in their own order, with the meter always."""
    names = {*text.replace(" ", "").split(","), "meter"}
    if not names <= set(GROUPS):
        raise ArgumentTypeError(f"{text!r}: expected some of {', '.join(GROUPS)}, with commas between")
    return tuple(group for group in GROUPS if group in names)


class Command(BaseCommand):
    help = "What a tenant used, by time and group."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="name of the tenant")
        parser.add_argument("--from", dest="first", type=month, help="the first month, as 2026-11; default: this month")
        parser.add_argument("--to", dest="last", type=month, help="the last month; default: the first")
        parser.add_argument("--bucket-width", choices=WIDTHS, default="month")
        parser.add_argument("--group-by", type=groups, default=("meter",), help=f"some of {','.join(GROUPS)}")
        parser.add_argument("--format", choices=report_tables.FORMATS, default="table")

    def handle(self, *, tenant: str, first: date | None, last: date | None, **options: Any) -> None:
        first = first or timezone.now().astimezone(UTC).date().replace(day=1)
        report = Report(
            start=_midnight(first),
            end=_midnight(pricing.month_after(last or first)),
            width=options["bucket_width"],
            groups=options["group_by"],
            matching={},
        )
        if not timedelta(0) < report.end - report.start <= timedelta(days=MOST_DAYS[report.width]):
            raise CommandError(
                f"Expected a last month that is not before the first, and {MOST_DAYS[report.width]} days at most "
                f"by {report.width}; got {report.start:%Y-%m-%d} to {report.end:%Y-%m-%d}."
            )
        try:
            with scoping.operator():
                self._write(accounts.get_tenant(name=tenant), report, form=options["format"])
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal

    def _write(self, tenant: Tenant, report: Report, *, form: str) -> None:
        names = usage_reports.key_names(tenant=tenant)
        sums = usage_reports.every_total(tenant=tenant, report=report)
        if form == "csv":
            usage_csv.write(sums, key_names=names, into=self.stdout)
        else:
            report_tables.write(_table(report, sums, names), form=form, into=self.stdout)


def _table(report: Report, sums: Iterable[Total], names: dict[str, str]) -> Table:
    columns = ("start", *(f"{group}_name" if group == "key" else group for group in report.groups), "quantity")
    rows = []
    for row in sums:
        shown = [names.get(value, value) if group == "key" else value for group, value in row.groups.items()]
        rows.append((f"{row.start:%Y-%m-%dT%H:%MZ}", *shown, usage_csv.plain(row.quantity)))
    return Table(columns, rows)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
