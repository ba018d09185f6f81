"""Where a test's stored files and scratch files lie: in its own folder."""

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from tenants.ledger.archive import FOLDER


@pytest.fixture
def places(settings: Settings, tmp_path: Path) -> Path:
    """A folder for this test: `files` is Django's storage, `scratch` what should be empty afterwards."""
    settings.FILES_DIR = str(tmp_path / "files")
    settings.SCRATCH_DIR = str(tmp_path / "scratch")
    settings.STORAGES = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": settings.FILES_DIR},
        }
    }
    return tmp_path


def stored_files(places: Path) -> set[str]:
    """The names of all tenants' files in the storage, and of what waits to be moved in: there should be none."""
    files = places / "files"
    return {path.name for path in files.rglob("*") if path.is_file() and not path.is_relative_to(files / FOLDER)}


def scratch_files(places: Path) -> list[Path]:
    return [path for path in (places / "scratch").rglob("*") if path.is_file()]
