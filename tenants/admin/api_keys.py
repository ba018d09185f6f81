"""API keys: made and rotated here with their text shown once, and revoked."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from tenants.admin.base import Form, VerbAdmin, actor, become
from tenants.errors import Refusal
from tenants.keys import api_keys
from tenants.models import ApiKey, Tenant

MADE = ("tenant", "name", "scopes", "networks", "deployments", "expires_at")


class ApiKeyForm(Form):
    tenant = forms.ModelChoiceField(queryset=Tenant.objects.all())
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in api_keys.SCOPES], widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = ApiKey
        fields = ["name", "scopes", "networks", "deployments", "expires_at"]

    def clean_networks(self) -> list[str] | None:
        return _some(self.cleaned_data["networks"])

    def clean_deployments(self) -> list[str] | None:
        return _some(self.cleaned_data["deployments"])


def _some(texts: list[str]) -> list[str] | None:
    """What stands between the commas; none for an empty field."""
    return [text.strip() for text in texts if text.strip()] or None


@admin.register(ApiKey)
class ApiKeyAdmin(VerbAdmin):
    list_display = ["name", "prefix", "tenant", "scopes", "state", "last_used_at", "created_at", "expires_at"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter), ("expires_at", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["name", "prefix", "id", "tenant__name", "tenant__id"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    actions = ["rotate", "rotate_now", "revoke", "revoke_as_leaked"]
    form = ApiKeyForm

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        if obj is None:
            return MADE
        ends = ("expires_at", "revoked_at", "last_used_at", "replaces", "replaced_by")
        return ("id", *MADE[:2], "prefix", *MADE[2:5], "created_at", "created_by", *ends)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return self.get_fields(request, obj) if obj else ()

    def get_form(self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **options: Any) -> Any:
        # The form has the tenant as a field of its own: a row's tenant is not editable, so the admin refuses its name.
        fields = {} if obj else {"fields": ApiKeyForm.Meta.fields}
        return super().get_form(request, obj, change, **(options | fields))

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Form, change: bool) -> None:
        wanted: dict[str, Any] = form.cleaned_data
        new = api_keys.create(**{field: wanted[field] for field in MADE}, actor=actor(request), now=timezone.now())
        become(obj, new.row)
        self._show(request, f"The key is {new.text}")

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        return api_keys.state(key, now=timezone.now())

    @admin.action(description="Rotate: a new key, and the old one works for another 24 hours", permissions=["add"])
    def rotate(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        self._rotate(request, keys, grace=api_keys.GRACE)

    @admin.action(description="Rotate: a new key, and the old one stops now", permissions=["add"])
    def rotate_now(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        self._rotate(request, keys, grace=timedelta(0))

    @admin.action(description="Revoke: refused within a second, for good", permissions=["add"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        for key in keys:
            api_keys.revoke(key=key, actor=actor(request), now=timezone.now())
        self.message_user(request, f"Revoked: {', '.join(str(key) for key in keys)}.")

    @admin.action(description="Revoke as leaked: and tell the owner", permissions=["add"])
    def revoke_as_leaked(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        for key in keys:
            api_keys.leaked(key=key, actor=actor(request), now=timezone.now())
        self.message_user(request, f"Revoked as leaked: {', '.join(str(key) for key in keys)}.")

    def _rotate(self, request: HttpRequest, keys: QuerySet[ApiKey], *, grace: timedelta) -> None:
        for key in keys:
            try:
                new = api_keys.rotate(key=key, grace=grace, actor=actor(request), now=timezone.now())
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.ERROR)
            else:
                self._show(request, f"{key.name} of {key.tenant} is now {new.text}")

    def _show(self, request: HttpRequest, text: str) -> None:
        self.message_user(request, f"{text}: copy it now, it is not shown again and kept nowhere.", messages.WARNING)
