"""What every test stands on: the embedded PostgreSQL, and a named cast of tenants, members and keys."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aiaas_site.settings")

from aiaas_site import embedded_database

embedded_database.ensure_started()

import django

django.setup()

import shutil
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import accounts, scoping
from tenants.keys import api_keys
from tenants.models import Plan, Role, Tenant

# The cast has passwords that nobody guards: hashing them well takes longer than most tests.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)  # WhiteNoise warns where there is none.


@pytest.hookimpl(wrapper=True)  # before pytest looks which marks are wanted
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, object, object]:
    """Marks the tests that leave every table empty, what migrations put in, too: they run after all others."""
    for item in items:
        marker = item.get_closest_marker("django_db")
        if marker is not None and marker.kwargs.get("transaction"):
            item.add_marker(pytest.mark.empties_tables)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """What tests store goes into a folder of this process, removed after it.

    Before any test's module is looked into: pytest opens what it finds there, and a storage keeps its first folder.
    """
    folder = tempfile.mkdtemp(prefix="aiaas-tests-")
    options = cast(dict[str, dict[str, dict[str, str]]], settings.STORAGES)["default"]["OPTIONS"]
    options["location"] = folder
    config.add_cleanup(lambda: shutil.rmtree(folder))


@dataclass(frozen=True)
class Account:
    """A tenant, its members by role, and a key with every scope."""

    tenant: Tenant
    members: dict[str, User]
    key: str


def open_account(name: str) -> Account:
    """A tenant with an owner, a developer, a billing member and a key that may do everything."""
    now = timezone.now()
    with scoping.operator():
        tenant = accounts.create_tenant(
            name=name, plan=Plan.objects.get(code="standard"), actor="operator:test", now=now
        )
        members = {}
        for role in Role.values:
            members[role] = User.objects.create_user(f"{role}@{name}.example", password="correct-horse-battery")
            accounts.add_member(tenant=tenant, user=members[role], role=role, actor="operator:test", now=now)
        key = api_keys.create(tenant=tenant, name="all", scopes=list(api_keys.SCOPES), actor="operator:test", now=now)
    return Account(tenant=tenant, members=members, key=key.text)


@pytest.fixture
def acme(db: None) -> Account:
    return open_account("acme")


@pytest.fixture
def globex(db: None) -> Account:
    return open_account("globex")


@pytest.fixture
def client_of() -> Callable[[str], APIClient]:
    """A control-API client that sends this key."""

    def make(key: str) -> APIClient:
        client = APIClient(raise_request_exception=True)
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        return client

    return make


@pytest.fixture
def acme_client(acme: Account, client_of: Callable[[str], APIClient]) -> APIClient:
    return client_of(acme.key)


@pytest.fixture
def globex_client(globex: Account, client_of: Callable[[str], APIClient]) -> APIClient:
    return client_of(globex.key)
