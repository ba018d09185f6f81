"""Usage: how much of what was used, by time and group."""

from datetime import UTC, datetime, time
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tenants import pricing, usage_reports
from tenants.api import openapi
from tenants.api.pagination import Place, bad_cursor, page_of
from tenants.api.serializers import PageQuery, PlainDecimalField
from tenants.api.views import TenantView
from tenants.models import Meter
from tenants.usage_reports import GROUPS, WIDTHS, Report, Total

EXPECTED = "Expected an ISO date (2026-11-01) or a time on a full hour (2026-11-01T13:00:00Z; a + is %2B in a URL)."


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


class GroupsField(serializers.CharField):
    """Names with commas between."""

    def to_internal_value(self, data: str) -> tuple[str, ...]:  # type: ignore[override]
        names = data.split(",")
        if not set(names) <= set(GROUPS) or len(set(names)) < len(names):
            raise serializers.ValidationError(f"Expected some of {', '.join(GROUPS)}, with commas between.")
        return tuple(group for group in GROUPS if group in names)


class UsageQuery(PageQuery):
    bucket_width = serializers.ChoiceField(choices=WIDTHS, default="day", help_text="in UTC")
    group_by = GroupsField(
        required=False,
        help_text=f"some of {', '.join(GROUPS)}, with commas between; `meter` always is: meters are never added up",
    )
    meter = serializers.ChoiceField(choices=Meter.values, required=False, help_text="only this meter")
    key = serializers.CharField(required=False, help_text="only the key with this id")
    deployment = serializers.CharField(required=False, help_text="only the deployment of this name")
    version = serializers.CharField(required=False, help_text="only this version: model@number")

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
        return attrs


class UsageRowSerializer(serializers.Serializer[Total]):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField(help_text="the first moment after it")
    key = serializers.CharField(allow_null=True, help_text="null where it is not in `group_by`")
    deployment = serializers.CharField(allow_null=True)
    version = serializers.CharField(allow_null=True)
    meter = serializers.ChoiceField(choices=Meter.choices)
    quantity = PlainDecimalField()

    def to_representation(self, instance: Total) -> dict[str, Any]:
        groups = {group: instance.groups.get(group) for group in GROUPS}
        row = {"start": instance.start, "end": instance.end, **groups, "quantity": instance.quantity}
        return super().to_representation(row)  # type: ignore[arg-type]


class UsageView(TenantView):
    """Sums of what was used."""

    scopes = {"GET": ("read", "billing")}

    @extend_schema(
        operation_id="get_usage",
        tags=["Billing"],
        parameters=[UsageQuery],
        responses=openapi.answers(200, openapi.page_of(UsageRowSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """What was used in each bucket of time, oldest first; hours are in the report seconds after they were used."""
        query = self.query(UsageQuery)
        report = Report(
            start=query["from"],
            end=query["to"],
            width=query["bucket_width"],
            groups=tuple(group for group in GROUPS if group in (*query.get("group_by", ()), "meter")),
            matching={name: query[name] for name in GROUPS if name in query},
        )

        def fetch(beyond: Place | None, backwards: bool, count: int) -> list[Total]:
            return usage_reports.totals(
                tenant=self.caller.tenant,
                report=report,
                beyond=_place(beyond, report),
                backwards=backwards,
                count=count,
            )

        page = page_of(request, place=lambda row: [_iso(row.bucket), *row.groups.values()], fetch=fetch)
        return page.response(UsageRowSerializer, page.rows)


def _place(place: Place | None, report: Report) -> tuple[Any, ...] | None:
    if place is None:
        return None
    if len(place) != 1 + len(report.groups) or not all(isinstance(part, str) and "\0" not in part for part in place):
        raise bad_cursor()
    try:
        bucket = datetime.fromisoformat(place[0])
    except ValueError as error:
        raise bad_cursor() from error
    return (bucket, *place[1:])


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
