"""Links from one page of the admin to another."""

from django.db import models
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString


def to(row: models.Model | None) -> SafeString | str:
    """A link to a row's own page; a dash where there is none."""
    if row is None:
        return "-"
    address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', address, row)


def to_list(model: type[models.Model], text: str, **filters: str) -> SafeString:
    """A link to those rows of a table that have these values."""
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist", query=filters)
    return format_html('<a href="{}">{}</a>', address, text)
