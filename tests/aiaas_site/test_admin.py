"""The operator's admin as a whole: every table of ours has its pages, and they answer."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse

ROOMS = ("tenants", "modelhub", "inference")
TABLES = [model for room in ROOMS for model in apps.get_app_config(room).get_models()]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table._meta.label)
def test_every_table_has_a_list_that_searches(table: type[Model], db: None) -> None:
    assert table in admin.site._registry
    User.objects.create_superuser("operator", password="correct-horse-battery")
    browser = Client()
    browser.login(username="operator", password="correct-horse-battery")
    path = reverse(f"admin:{table._meta.app_label}_{table._meta.model_name}_changelist")
    assert browser.get(path, {"q": "acme"}).status_code == 200
