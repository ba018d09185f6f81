"""API keys: made here with their text shown once, and revoked."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from tenants import api_keys
from tenants.admin.base import Form, VerbAdmin, actor, become
from tenants.models import ApiKey, Tenant


class ApiKeyForm(Form):
    tenant = forms.ModelChoiceField(queryset=Tenant.objects.all())
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in api_keys.SCOPES], widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = ApiKey
        fields = ["name", "scopes", "expires_at"]


@admin.register(ApiKey)
class ApiKeyAdmin(VerbAdmin):
    list_display = ["name", "prefix", "tenant", "scopes", "state", "created_at", "expires_at", "created_by"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter), ("expires_at", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["name", "prefix", "id", "tenant__name", "tenant__id"]
    date_hierarchy = "created_at"
    ordering = ["-id"]
    actions = ["revoke"]
    form = ApiKeyForm

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("tenant", "name", "scopes", "expires_at")
        return ("id", "tenant", "name", "prefix", "scopes", "created_at", "created_by", "expires_at", "revoked_at")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return self.get_fields(request, obj) if obj else ()

    def get_form(self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **options: Any) -> Any:
        # The form has the tenant as a field of its own: a row's tenant is not editable, so the admin refuses its name.
        fields = {} if obj else {"fields": ApiKeyForm.Meta.fields}
        return super().get_form(request, obj, change, **(options | fields))

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Form, change: bool) -> None:
        wanted: dict[str, Any] = form.cleaned_data
        new = api_keys.create(
            tenant=wanted["tenant"],
            name=wanted["name"],
            scopes=wanted["scopes"],
            expires_at=wanted["expires_at"],
            actor=actor(request),
            now=timezone.now(),
        )
        become(obj, new.row)
        self.message_user(
            request, f"The key is {new.text}: copy it now, it is not shown again and kept nowhere.", messages.WARNING
        )

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "revoked"
        return "expired" if key.expires_at and key.expires_at <= timezone.now() else "active"

    @admin.action(description="Revoke: refused within a second, for good", permissions=["add"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        for key in keys:
            api_keys.revoke(key=key, actor=actor(request), now=timezone.now())
        self.message_user(request, f"Revoked: {', '.join(str(key) for key in keys)}.")
