"""Settings from the environment, and secrets from files that it names."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from aiaas_site.env import Environment


def test_a_secret_is_read_from_the_file_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("drawn\n")
    environment = Environment({"SECRET_KEY_FILE": str(tmp_path / "key"), "SECRET_KEY": "other"})
    assert environment["SECRET_KEY"] == "drawn"


def test_only_the_line_end_is_cut_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(" two words \r\n")
    assert Environment({"URL_FILE": str(tmp_path / "url")})["URL"] == " two words "


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    environment = Environment({"DATABASE_URL_FILE": str(tmp_path / "nowhere")})
    with pytest.raises(ImproperlyConfigured, match=r"DATABASE_URL_FILE names '.*nowhere', which cannot be read"):
        environment["DATABASE_URL"]
