"""Every golden file is answered as it says, byte for byte; `GOLDEN=write` writes the answers anew."""

import os
from pathlib import Path
from urllib.parse import unquote

import pytest

from inference.plane import routes
from inference.plane.routes import ROUTES
from inference.protocols.base import Route
from tenants.errors import Refusal
from tests.golden import exchanges
from tests.golden.conftest import GoldenSite

FOLDER = Path(__file__).resolve().parent
FILES = sorted(FOLDER.rglob("*.http"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER).with_suffix("")))
def test_the_answer_is_as_written(golden_site: GoldenSite, file: Path) -> None:
    case = exchanges.read(file)
    found = exchanges.ask(case, golden_site.site.port, golden_site.keys)
    if os.environ.get("GOLDEN") == "write":
        case.write(found)
    else:
        assert found == case.answer


def test_every_route_has_a_file() -> None:
    assert {id(route) for route in map(route_of, map(exchanges.read, FILES)) if route} == {id(one) for one in ROUTES}


def route_of(case: exchanges.Case) -> Route | None:
    try:
        return routes.find(case.method, unquote(case.path)).route
    except Refusal:
        return None
