"""The README is true: its walk-through runs line by line, and its table of settings is complete."""

import re
from pathlib import Path

import pytest

from tests.foreground import Foreground, environment_of, var_folder
from tests.live import ROOT
from tests.settings_read import settings_read
from tests.stories import pages

README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.slow
def test_the_walk_through_prints_what_it_says(tmp_path: Path) -> None:
    """Every line of the walk-through, in the project's folder but for the files that it writes."""
    script = pages.script_of(section("The journey with curl"))
    assert len(pages.expected_in(script)) >= 10
    with var_folder() as var:
        site = Foreground(var, "up", "--port", "0")
        try:
            pages.walk(script, folder=tmp_path, env=environment_of(var, SITE=site.url), seconds=300)
        finally:
            site.stop()


def test_the_table_of_settings_is_complete() -> None:
    rows = set(re.findall(r"^\| `([A-Z_]+)` \|", section("Configuration"), re.MULTILINE))
    assert rows == settings_read()


def test_the_files_that_the_documents_name_exist() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_commands_that_the_readme_names_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|\$ )make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
