"""Each recipe's page is true: from the upload of real data to a served answer, over HTTP, as the page says it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.foreground import Foreground, environment_of, var_folder
from tests.live import ROOT
from tests.stories import pages

PAGES = sorted((ROOT / "docs" / "recipes").glob("*.md"))
DATA = ROOT.parent / "shared" / "data"
# The continuous integration has the data beside the project; there a story that cannot be told is a failure.
REQUIRED = bool(os.environ.get("CI"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not DATA.exists() and not REQUIRED, reason=f"the real data are not there: expected a folder {DATA}"
    ),
]


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Foreground, Path]]:
    """One site for all pages; each opens an account of its own."""
    with var_folder() as var:
        running = Foreground(var, "up", "--port", "0")
        try:
            yield running, var
        finally:
            running.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_walks_from_data_to_an_answer(page: Path, site: tuple[Foreground, Path], tmp_path: Path) -> None:
    running, var = site
    script = pages.script_of(page.read_text())
    assert len(pages.expected_in(script)) >= 4, "a page says what its commands print"
    env = environment_of(var, SITE=running.url, DATA=str(DATA), ACCOUNT=page.stem)
    pages.walk(script, folder=tmp_path, env=env, seconds=300)
