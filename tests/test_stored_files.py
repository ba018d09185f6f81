"""Tests keep what they store to themselves."""

from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage


def test_nothing_is_stored_among_the_files_of_the_checkout() -> None:
    """A name of this module, as in others: pytest opens the storage before the first fixture runs."""
    assert not Path(default_storage.path("one")).is_relative_to(settings.VAR_DIR)
