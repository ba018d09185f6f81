"""The README is true: its walk-through runs line by line, and its table of settings is complete."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.foreground import Foreground, environment_of, var_folder
from tests.live import ROOT
from tests.settings_read import settings_read

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXPECTED = "# → "


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def walk_through() -> str:
    """Every line of the walk-through, in the project's folder but for the files that it writes."""
    return "".join(BLOCK.findall(section("The journey with curl")))


@pytest.mark.slow
def test_the_walk_through_prints_what_it_says(tmp_path: Path) -> None:
    script = walk_through()
    expected = [line.removeprefix(EXPECTED) for line in script.splitlines() if line.startswith(EXPECTED)]
    assert len(expected) >= 10
    # What stands after an arrow must be in what was printed since the arrow before it.
    numbered = re.sub(rf"^{EXPECTED}.*$", "echo; echo '--- next ---'", script, flags=re.MULTILINE)
    for name in (".venv", "manage.py", "aiaas_site", "tenants", "modelhub", "inference"):
        (tmp_path / name).symlink_to(ROOT / name)
    with var_folder() as var:
        site = Foreground(var, "up", "--port", "0")
        try:
            done = subprocess.run(
                ["bash", "-c", f"set -euo pipefail\n{numbered}"],
                cwd=tmp_path,
                env=environment_of(var, SITE=site.url),
                capture_output=True,
                text=True,
                timeout=300,
            )
        finally:
            site.stop()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{site.output}"
    printed = done.stdout.split("--- next ---")
    for text, output in zip(expected, printed, strict=False):
        assert text in output


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
