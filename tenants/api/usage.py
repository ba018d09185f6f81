"""Usage: how much of what was used, by time and group."""

import io
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from tenants import pricing
from tenants.api import openapi
from tenants.api.pagination import Place, bad_cursor, page_of
from tenants.api.serializers import PageQuery, PlainDecimalField
from tenants.api.views import TenantView
from tenants.models import Meter
from tenants.reports import usage_csv, usage_reports
from tenants.reports.usage_reports import GROUPS, MOST_DAYS, WIDTHS, Report, Total

EXPECTED = "Expected an ISO date (2026-11-01) or a time on a full hour (2026-11-01T13:00:00Z; a + is %2B in a URL)."

MOST_NAMES = 100
BYTES_IN_MEMORY = 1024 * 1024


class HourField(serializers.CharField):
    """An ISO time on a full hour, or a date, which is its first hour."""

    def to_internal_value(self, data: str) -> datetime:  # type: ignore[override]
        try:
            day = parse_date(data)
            moment = datetime.combine(day, time()) if day else parse_datetime(data)
            if moment is None:
                raise serializers.ValidationError(f"{EXPECTED} Got {data[:40]!r}.")
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise serializers.ValidationError(f"{EXPECTED} Got {data[:40]!r}.") from error
        if moment != moment.replace(minute=0, second=0, microsecond=0) or not 1970 <= moment.year < 9000:
            raise serializers.ValidationError(f"{EXPECTED} Got {data[:40]!r}.")
        return moment


class NamesField(serializers.CharField):
    """Names with commas between, each once; some of `choices`, if there are any."""

    def __init__(self, *, choices: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.choices = choices

    def to_internal_value(self, data: str) -> tuple[str, ...]:  # type: ignore[override]
        names = data.split(",")
        if (self.choices and not set(names) <= set(self.choices)) or len(set(names)) < len(names):
            some = f"some of {', '.join(self.choices)}" if self.choices else "different names"
            raise serializers.ValidationError(f"Expected {some}, with commas between; got {data[:80]!r}.")
        if "" in names or len(names) > MOST_NAMES:
            raise serializers.ValidationError(f"Expected 1 to {MOST_NAMES} names with commas between.")
        return tuple(names)


class CsvRenderer(BaseRenderer):
    """Has `Accept: text/csv` and `format=csv` mean the report's file, which the view makes itself."""

    media_type = "text/csv"
    format = "csv"


class FormatFirst(DefaultContentNegotiation):
    """`format=` says more than Accept, which browsers fill in by themselves; what it may be the query's reader says."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        wanted = request.query_params.get("format")
        for renderer in renderers:
            if wanted == renderer.format:
                return renderer, renderer.media_type
        return (renderers[0], renderers[0].media_type) if wanted else super().select_renderer(request, renderers)


class UsageQuery(PageQuery):
    bucket_width = serializers.ChoiceField(choices=WIDTHS, default="day", help_text="in UTC")
    group_by = NamesField(
        choices=GROUPS,
        required=False,
        help_text=f"some of {', '.join(GROUPS)}, with commas between; `meter` always is: meters are never added up",
    )
    meter = NamesField(choices=Meter.values, required=False, help_text="only these meters, with commas between")
    key = NamesField(required=False, help_text="only the keys with these ids")
    deployment = NamesField(required=False, help_text="only the deployments of these names")
    model = NamesField(required=False, help_text="only the models of these names")
    version = NamesField(required=False, help_text="only these versions: model@number")
    format = serializers.ChoiceField(
        choices=["json", "csv"],
        required=False,
        help_text="csv: the whole report as a file, as with `Accept: text/csv`; it has no pages",
    )

    def get_fields(self) -> dict[str, Any]:
        # `from` is a word of Python, so these two cannot be declared above.
        until = HourField(
            required=False, help_text=f"the first hour after the last one; default: next month. {EXPECTED}"
        )
        since = HourField(required=False, help_text=f"the first hour; default: this month. {EXPECTED}")
        return {"from": since, "to": until} | super().get_fields()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        month = timezone.now().astimezone(UTC).date().replace(day=1)
        start = attrs.setdefault("from", datetime.combine(month, time(), UTC))
        end = attrs.setdefault("to", datetime.combine(pricing.month_after(month), time(), UTC))
        if end <= start:
            raise serializers.ValidationError({"to": f"Expected a time after `from`, which is {_iso(start)}."})
        width, most = attrs["bucket_width"], MOST_DAYS[attrs["bucket_width"]]
        if end - start > timedelta(days=most):
            raise serializers.ValidationError(
                {"to": f"A report by {width} spans {most} days at most. Expected a time until "
                       f"{_iso(start + timedelta(days=most))}, or a greater bucket_width."}
            )  # fmt: skip
        return attrs


class UsageRowSerializer(serializers.Serializer[Total]):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField(help_text="the first moment after it")
    key = serializers.CharField(allow_null=True, help_text="null where it is not in `group_by`")
    key_name = serializers.CharField(allow_null=True, help_text="null where there is no such key")
    deployment = serializers.CharField(allow_null=True)
    model = serializers.CharField(allow_null=True)
    version = serializers.CharField(allow_null=True)
    meter = serializers.ChoiceField(choices=Meter.choices)
    quantity = PlainDecimalField()

    def to_representation(self, instance: Total) -> dict[str, Any]:
        groups = {group: instance.groups.get(group) for group in GROUPS}
        named = {"key_name": self.context["key_names"].get(groups["key"])}
        row = {"start": instance.start, "end": instance.end, **groups, **named, "quantity": instance.quantity}
        return super().to_representation(row)  # type: ignore[arg-type]


class UsageView(TenantView):
    """Sums of what was used."""

    scopes = {"GET": ("read", "billing")}
    renderer_classes = [JSONRenderer, CsvRenderer]
    content_negotiation_class = FormatFirst

    @extend_schema(
        operation_id="get_usage",
        tags=["Billing"],
        parameters=[UsageQuery],
        responses={
            (200, "application/json"): openapi.page_of(UsageRowSerializer),
            (200, "text/csv"): OpenApiTypes.STR,
        } | {key: value for key, value in openapi.answers(200, None, 400).items() if key != 200},
    )  # fmt: skip
    def get(self, request: Request) -> HttpResponseBase:
        """What was used in each bucket of time, oldest first; hours are in the report seconds after they were used."""
        query = self.query(UsageQuery)
        report = Report(
            start=query["from"],
            end=query["to"],
            width=query["bucket_width"],
            groups=tuple(group for group in GROUPS if group in (*query.get("group_by", ()), "meter")),
            matching={name: query[name] for name in GROUPS if name in query},
        )
        return self._file(report) if request.accepted_renderer.format == "csv" else self._page(request, report)

    def _page(self, request: Request, report: Report) -> Response:
        tenant = self.caller.tenant

        def fetch(beyond: Place | None, backwards: bool, count: int) -> list[Total]:
            place = _place(beyond, report)
            return usage_reports.totals(tenant=tenant, report=report, beyond=place, backwards=backwards, count=count)

        page = page_of(request, place=lambda row: [_iso(row.bucket), *row.groups.values()], fetch=fetch)
        keys = {row.groups["key"] for row in page.rows} if "key" in report.groups else set()
        names = usage_reports.key_names(tenant=tenant, ids=keys) if keys else {}
        return page.response(UsageRowSerializer, page.rows, key_names=names)

    def _file(self, report: Report) -> "ReportFile":
        """The whole report, of one moment: it is written before the first byte is sent, so that none ends half-way."""
        tenant = self.caller.tenant
        file = tempfile.SpooledTemporaryFile(max_size=BYTES_IN_MEMORY, mode="w+b")  # noqa: SIM115
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        names = usage_reports.key_names(tenant=tenant) if "key" in report.groups else {}
        usage_csv.write(usage_reports.every_total(tenant=tenant, report=report), key_names=names, into=text)
        text.detach()
        file.seek(0)
        name = f"usage-{tenant.name}-{report.start:%Y-%m-%d}-{report.width}.csv"
        return ReportFile(file, as_attachment=True, filename=name, content_type="text/csv; charset=utf-8")


class ReportFile(FileResponse):
    """A file in larger pieces than Django's, each of which is handed from a thread to the event loop."""

    block_size = 256 * 1024


def _place(place: Place | None, report: Report) -> tuple[Any, ...] | None:
    if place is None:
        return None
    if len(place) != 1 + len(report.groups) or not all(isinstance(part, str) and "\0" not in part for part in place):
        raise bad_cursor()
    try:
        bucket = datetime.fromisoformat(place[0]).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise bad_cursor() from error
    if not 1970 <= bucket.year < 9000:
        raise bad_cursor()
    return (bucket, *place[1:])


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
