"""Quotas: the operator's limits and caps, what each period allows, what of it is used, and who holds the rest."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from tenants.admin.base import Form, ReadOnlyAdmin, VerbAdmin, actor, become
from tenants.limits import quota_limits, spend_caps
from tenants.models import QuotaBucket, QuotaLease, QuotaLimit, SetBy, SpendCap, Tenant


class TenantForm(Form):
    """The tenant as a field of the form: a row's own is not editable, so the admin refuses its name."""

    tenant = forms.ModelChoiceField(queryset=Tenant.objects.all())


class QuotaLimitForm(TenantForm):
    class Meta:
        model = QuotaLimit
        fields = ["scope", "meter", "period", "limit"]


class SpendCapForm(TenantForm):
    class Meta:
        model = SpendCap
        fields = ["amount"]


class OperatorsAdmin(VerbAdmin):
    """Rows that the operator adds (again: replaces) and removes; both sides' are shown."""

    form: type[TenantForm]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "delete")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fields = ("tenant", *self.form.Meta.fields)  # type: ignore[attr-defined]
        return (*fields, "set_by") if obj else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.get_fields(request, obj) if obj else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        fields = {} if obj else {"fields": self.form.Meta.fields}  # type: ignore[attr-defined]
        return super().get_form(request, obj, change, **(options | fields))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.delete_model(request, row)


@admin.register(QuotaLimit)
class QuotaLimitAdmin(OperatorsAdmin):
    list_display = ["tenant", "scope", "meter", "period", "limit", "set_by", "created_at"]
    list_filter = ["set_by", "meter", "period"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name", "tenant__id", "scope", "id"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    form = QuotaLimitForm

    def save_model(self, request: HttpRequest, obj: QuotaLimit, form: Form, change: bool) -> None:
        wanted: dict[str, Any] = form.cleaned_data
        row = quota_limits.put(**wanted, set_by=SetBy.OPERATOR, actor=actor(request), now=timezone.now())
        become(obj, row)

    def delete_model(self, request: HttpRequest, obj: QuotaLimit) -> None:
        quota_limits.remove(limit=obj, side=SetBy.OPERATOR, actor=actor(request))


@admin.register(SpendCap)
class SpendCapAdmin(OperatorsAdmin):
    list_display = ["tenant", "amount", "set_by"]
    list_filter = ["set_by"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name", "tenant__id"]
    ordering = ["-id"]
    form = SpendCapForm

    def save_model(self, request: HttpRequest, obj: SpendCap, form: Form, change: bool) -> None:
        wanted: dict[str, Any] = form.cleaned_data
        become(obj, spend_caps.put(**wanted, set_by=SetBy.OPERATOR, actor=actor(request)))

    def delete_model(self, request: HttpRequest, obj: SpendCap) -> None:
        spend_caps.remove(tenant=obj.tenant, set_by=obj.set_by, actor=actor(request))


@admin.register(QuotaBucket)
class QuotaBucketAdmin(ReadOnlyAdmin):
    list_display = ["tenant", "scope", "meter", "period", "period_start", "limit", "consumed", "leased"]
    list_filter = ["period", "meter"]
    list_select_related = ["tenant"]
    search_fields = ["tenant__name", "tenant__id", "scope"]
    date_hierarchy = "period_start"
    ordering = ["-period_start", "-id"]
    fields = ["tenant", "scope", "meter", "period", "period_start", "limit", "consumed", "leased", "warned"]


@admin.register(QuotaLease)
class QuotaLeaseAdmin(ReadOnlyAdmin):
    list_display = ["producer", "tenant", "bucket", "units"]
    list_filter = ["bucket__period"]
    list_select_related = ["tenant", "bucket"]
    search_fields = ["producer", "tenant__name", "tenant__id"]
    ordering = ["-id"]
    fields = ["producer", "tenant", "bucket", "units"]
