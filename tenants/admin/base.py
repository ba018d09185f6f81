"""What the admin of a table is made of: rows are read, and changed by verbs only."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase

from tenants import audit
from tenants.errors import Refusal

if TYPE_CHECKING:  # The stubs have these take types that the classes themselves do not.
    Admin = admin.ModelAdmin[Any]
    Inline = admin.TabularInline[Any, Any]
    Form = forms.ModelForm[Any]
else:
    Admin, Inline, Form = admin.ModelAdmin, admin.TabularInline, forms.ModelForm


def actor(request: HttpRequest) -> str:
    """How the audit trail names the operator who is logged in."""
    return f"operator:{request.user.get_username()}"


class ReadOnlyAdmin(Admin):
    """Lists and pages to read."""

    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class VerbAdmin(ReadOnlyAdmin):
    """Pages whose form calls a verb in `save_model`; what the verb refuses is shown, and nothing is changed."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "add")

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            response: HttpResponseBase = super().changeform_view(request, *args, **kwargs)
        except Refusal as refusal:
            self.message_user(request, refusal.detail, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        return response

    def _may(self, request: HttpRequest, verb: str) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.{verb}_{self.opts.model_name}")


class RecordedAdmin(Admin):
    """Pages that edit what belongs to no tenant: each edit leaves a row in the operators' chain of the audit trail.

    The row says which fields were changed, and how those of `recorded` stand after it (before it, where it removes).
    """

    recorded: tuple[str, ...] = ()

    def log_addition(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        self._record(request, "add", obj, message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        self._record(request, "change", obj, message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            self._record(request, "remove", obj, [])
        return super().log_deletions(request, queryset)

    def _record(self, request: HttpRequest, verb: str, obj: models.Model, message: Any) -> None:
        audit.record_of_operators(
            actor=actor(request),
            verb=f"{self.opts.model_name}.{verb}",
            subject=str(obj),
            how=message,
            values={name: self._value(obj, name) for name in self.recorded},
        )

    def _value(self, obj: models.Model, name: str) -> Any:
        value = getattr(obj, name)
        if isinstance(value, models.Manager):
            return sorted(str(one) for one in value.all())
        if isinstance(value, Decimal):
            return f"{value.normalize():f}"
        return value if isinstance(value, bool | int | str | list | dict | None) else str(value)


def become(obj: models.Model, row: models.Model) -> None:
    """Has the form's unsaved object stand for the row that a verb made, so that the admin goes on with it."""
    obj.pk = row.pk
    obj._state.adding = False
    obj.refresh_from_db()
