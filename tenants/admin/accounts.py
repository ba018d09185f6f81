"""Tenants and their members."""

from datetime import UTC, date, datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants import accounts, pricing
from tenants.admin.base import Form, VerbAdmin, actor, become
from tenants.errors import NotFound, Refusal
from tenants.invoicing import billing, closing, invoices
from tenants.limits import quotas
from tenants.models import Membership, Tenant
from tenants.reports import usage_reports


@admin.register(Tenant)
class TenantAdmin(VerbAdmin):
    list_display = ["name", "id", "plan", "active", "created_at"]
    list_filter = ["active", "plan"]
    list_select_related = ["plan"]
    search_fields = ["name", "id"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    actions = ["suspend", "activate"]

    def has_change_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return self._may(request, "change")

    def get_fields(self, request: HttpRequest, obj: Tenant | None = None) -> tuple[str, ...]:
        return ("id", "name", "plan", "active", "created_at", "this_month") if obj else ("name", "plan")

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> list[str]:
        return ["id", "name", "active", "created_at", "this_month"] if obj else []

    def save_model(self, request: HttpRequest, obj: Tenant, form: Form, change: bool) -> None:
        if change:
            tenant = Tenant.objects.get(pk=obj.pk)
            accounts.change_plan(tenant=tenant, plan=obj.plan, actor=actor(request), now=timezone.now())
        else:
            now = timezone.now()
            become(obj, accounts.create_tenant(name=obj.name, plan=obj.plan, actor=actor(request), now=now))

    @admin.display(description="bill and usage")
    def this_month(self, tenant: Tenant) -> SafeString:
        url = reverse("admin:tenants_tenant_month", args=[tenant.pk, f"{timezone.now():%Y-%m}"])
        return format_html('<a href="{}">draft invoice and usage of this month</a>', url)

    @admin.action(description="Suspend: refused everywhere until activated", permissions=["change"])
    def suspend(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> None:
        for tenant in tenants:
            accounts.suspend(tenant=tenant, actor=actor(request))
        self.message_user(request, f"Suspended: {', '.join(tenant.name for tenant in tenants)}.")

    @admin.action(description="Activate", permissions=["change"])
    def activate(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> None:
        for tenant in tenants:
            accounts.activate(tenant=tenant, actor=actor(request))
        self.message_user(request, f"Activated: {', '.join(tenant.name for tenant in tenants)}.", messages.SUCCESS)

    def get_urls(self) -> list[URLPattern]:
        month = self.admin_site.admin_view(self.month_view)
        return [path("<str:tenant_id>/months/<str:month>/", month, name="tenants_tenant_month"), *super().get_urls()]

    def month_view(self, request: HttpRequest, tenant_id: str, month: str) -> HttpResponse:
        """A month of a tenant: its draft invoice, and its usage by meter, deployment and key."""
        tenant, first = Tenant.objects.filter(pk=tenant_id).first(), pricing.month_of(month)
        if not self.has_view_permission(request, tenant):
            raise PermissionDenied
        if tenant is None or first is None:
            raise Http404(f"There is no month {month} of a tenant {tenant_id}.")
        now = timezone.now()
        if request.method == "POST":
            return self._close_month(request, tenant, first)
        try:
            bill = invoices.get(tenant=tenant, name=month, now=now)
        except NotFound as error:
            raise Http404(error.detail) from error
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{tenant.name}, {month}",
            "tenant": tenant,
            "bill": bill,
            "may_close": not bill.invoice.number and now >= bill.period_end and self.has_change_permission(request),
            "usage": _usage(tenant, first),
            "months": [f"{each:%Y-%m}" for each in billing.months(tenant=tenant, now=now)],
        }
        return TemplateResponse(request, "admin/tenants/tenant/month.html", context)

    def _close_month(self, request: HttpRequest, tenant: Tenant, month: date) -> HttpResponse:
        if not self.has_change_permission(request, tenant):
            raise PermissionDenied
        try:
            closing.close(month=month, tenant=tenant, actor=actor(request), now=quotas.database_time())
        except Refusal as refusal:
            self.message_user(request, refusal.detail, messages.ERROR)
        else:
            self.message_user(request, f"{month:%Y-%m} of {tenant.name} is closed.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:tenants_tenant_change", args=[tenant.pk]))


@admin.register(Membership)
class MembershipAdmin(VerbAdmin):
    list_display = ["user", "tenant", "role", "created_at"]
    list_filter = ["role"]
    list_select_related = ["user", "tenant"]
    search_fields = ["user__username", "tenant__name", "id"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    fields = ["tenant", "user", "role"]

    def has_change_permission(self, request: HttpRequest, obj: Membership | None = None) -> bool:
        return self._may(request, "change")

    def has_delete_permission(self, request: HttpRequest, obj: Membership | None = None) -> bool:
        return self._may(request, "delete")

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> list[str]:
        return ["tenant", "user"] if obj else []

    def save_model(self, request: HttpRequest, obj: Membership, form: Form, change: bool) -> None:
        row = accounts.add_member(
            tenant=obj.tenant, user=obj.user, role=obj.role, actor=actor(request), now=timezone.now()
        )
        become(obj, row)

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        accounts.remove_member(membership=obj, actor=actor(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        for membership in queryset:
            accounts.remove_member(membership=membership, actor=actor(request))


def _usage(tenant: Tenant, month: date) -> list[dict[str, Any]]:
    start = datetime(month.year, month.month, 1, tzinfo=UTC)
    report = usage_reports.Report(
        start=start,
        end=usage_reports.bucket_end("month", start),
        width="month",
        groups=("key", "deployment", "version", "meter"),
        matching={},
    )
    rows = usage_reports.totals(tenant=tenant, report=report, beyond=None, backwards=False, count=500)
    return [{**row.groups, "quantity": row.quantity.normalize()} for row in rows]
