"""The operator's reports over all tenants: pages with totals, and the same as a file."""

from datetime import UTC, date
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from tenants import pricing
from tenants.admin.base import Admin
from tenants.errors import FieldError, Invalid, Refusal
from tenants.reports import operator_reports, report_tables
from tenants.reports.report_tables import Table

if TYPE_CHECKING:
    Base = Admin
else:
    Base = object


class ReportPages(Base):
    """Adds the reports' pages to the admin of a table; who may see the table may see them."""

    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(self.report_view)
        return [path("reports/<str:kind>/", page, name="tenants_report"), *super().get_urls()]

    def report_view(self, request: HttpRequest, kind: str) -> HttpResponse:
        """A report over the months from `?from=` to `?to=`; `?format=csv` is the file."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if kind not in operator_reports.KINDS:
            raise Http404(f"There is no report {kind}; expected one of {', '.join(operator_reports.KINDS)}.")
        today = timezone.now().astimezone(UTC).date()
        months, table = [today.replace(day=1)], Table((), ())
        try:
            months = _months(request, today)
            table = operator_reports.report(kind=kind, months=months, today=today)
        except Refusal as refusal:
            self.message_user(request, refusal.detail, messages.ERROR)
        name = f"{kind}-{months[0]:%Y-%m}-{months[-1]:%Y-%m}"
        return _file(table, name) if request.GET.get("format") == "csv" else self._page(request, kind, months, table)

    def _page(self, request: HttpRequest, kind: str, months: list[date], table: Table) -> TemplateResponse:
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": operator_reports.KINDS[kind],
            "kind": kind,
            "kinds": operator_reports.KINDS,
            "first": f"{months[0]:%Y-%m}",
            "last": f"{months[-1]:%Y-%m}",
            "columns": [name.replace("_", " ") for name in table.columns],
            "rows": [[report_tables.plain(value) for value in row] for row in table.rows],
            "totals": [[report_tables.plain(value) for value in row] for row in table.totals],
        }
        return TemplateResponse(request, "admin/tenants/report.html", context)


def _months(request: HttpRequest, today: date) -> list[date]:
    """The months that are asked for; by default the one that runs."""
    found: list[date] = []
    for name in ("from", "to"):
        text = request.GET.get(name) or (found and f"{found[0]:%Y-%m}") or f"{today:%Y-%m}"
        month = pricing.month_of(text)
        if month is None:
            message = f"Expected a month, as 2026-11; got {text[:20]!r}."
            raise Invalid(f"{name}: {message}", errors=(FieldError(name, message),))
        found.append(month)
    return operator_reports.months_between(*found)


def _file(table: Table, name: str) -> HttpResponse:
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    report_tables.write_csv(table, answer)
    return answer
