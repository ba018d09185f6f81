"""A data set's way over HTTP: created, uploaded, checked, sealed, deleted."""

from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from tests.modelhub import zips

DATASETS = "/api/v1/datasets"


@pytest.fixture(autouse=True)
def places(settings: Settings, tmp_path: Path) -> Path:
    """Files and scratch files of this test only."""
    settings.FILES_DIR = str(tmp_path / "files")
    settings.SCRATCH_DIR = str(tmp_path / "scratch")
    settings.STORAGES = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": settings.FILES_DIR},
        }
    }
    return tmp_path


def create(client: APIClient, name: str = "pets") -> str:
    answer = client.post(DATASETS, {"name": name, "kind": "image-classification"}, format="json")
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def upload(client: APIClient, dataset: str, body: bytes, content_type: str = "application/zip", **extra: Any) -> Any:
    return client.put(f"{DATASETS}/{dataset}/content", data=body, content_type=content_type, **extra)


def test_an_upload_is_checked_and_reported(acme_client: APIClient) -> None:
    dataset = create(acme_client)
    answer = upload(acme_client, dataset, zips.packed(zips.good()))
    assert answer.status_code == 200, answer.content
    print(answer.json())
