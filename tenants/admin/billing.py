"""Plans and prices. A price that somebody may have used by is never edited: a new one from a later day is added."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from tenants.admin.base import Form, Inline, RecordedAdmin
from tenants.errors import Refusal
from tenants.invoicing import billing
from tenants.models import Plan, Price
from tenants.pricing import plan_history, prices

RULE = "Prices that have begun stay as they are: they have been billed by. Add one that begins later instead."


class PriceForm(Form):
    class Meta:
        model = Price
        fields = [
            "plan", "meter", "valid_from", "model", "amount", "per", "unit", "included", "minimum", "tiers",
        ]  # fmt: skip
        help_texts = {"valid_from": RULE, "amount": "for every `per` units of the meter"}

    def clean(self) -> dict[str, Any]:
        found = super().clean() or self.cleaned_data
        plan, begins = found.get("plan") or self.instance.plan, found.get("valid_from")
        if begins and billing.is_in_use(plan=plan, valid_from=begins, now=timezone.now()):
            raise forms.ValidationError(
                {"valid_from": f"The plan has tenants, so expected a day after today; got {begins}."}
            )
        if not self.errors:
            try:
                found.update(prices.read({name: found.get(name) for name in prices.FIELDS}))
            except Refusal as refusal:
                raise forms.ValidationError({e.field: e.message for e in refusal.errors}) from refusal
        return found


class PriceAdminRules:
    """Whether a price may be edited: not once it is in use."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_open(obj) and bool(super().has_change_permission(request, obj))  # type: ignore[misc]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_open(obj) and bool(super().has_delete_permission(request, obj))  # type: ignore[misc]


def _is_open(price: Any) -> bool:
    return not isinstance(price, Price) or not billing.is_in_use(
        plan=price.plan, valid_from=price.valid_from, now=timezone.now()
    )


@admin.register(Price)
class PriceAdmin(PriceAdminRules, RecordedAdmin):
    recorded = ("plan_id", "valid_from", *prices.FIELDS)
    list_display = ["plan", "meter", "valid_from", "model", "amount", "per", "unit", "included", "minimum"]
    list_filter = ["plan", "meter", "model"]
    list_select_related = ["plan"]
    search_fields = ["plan__code", "plan__name", "unit"]
    date_hierarchy = "valid_from"
    ordering = ["plan", "meter", "-valid_from"]
    actions = None
    form = PriceForm


class PriceInline(Inline):
    """The plan's prices, to read; each is edited on its own page."""

    model = Price
    extra = 0
    can_delete = False
    show_change_link = True
    ordering = ["meter", "-valid_from"]

    def has_add_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        return False


@admin.register(Plan)
class PlanAdmin(RecordedAdmin):
    recorded = tuple(field.attname for field in Plan._meta.concrete_fields)
    list_display = [
        "code", "name", "currency", "predictions_per_minute", "predictions_per_day", "predictions_per_month",
        "stored_bytes", "training_jobs_at_once", "training_job_seconds", "training_job_bytes",
    ]  # fmt: skip
    search_fields = ["code", "name"]
    list_filter = ["currency"]
    ordering = ["code"]
    actions = None
    inlines = [PriceInline]

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> list[str]:
        if obj is None:
            return []
        return ["code", "currency"] if plan_history.had(obj) else ["code"]

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        used = obj is not None and plan_history.had(obj)
        return not used and super().has_delete_permission(request, obj)
