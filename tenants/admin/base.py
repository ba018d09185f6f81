"""What the admin of a table is made of: rows are read, and changed by verbs only."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase

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


def become(obj: models.Model, row: models.Model) -> None:
    """Has the form's unsaved object stand for the row that a verb made, so that the admin goes on with it."""
    obj.pk = row.pk
    obj._state.adding = False
    obj.refresh_from_db()
