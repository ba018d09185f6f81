"""A live site to whose data sets files are uploaded, and a client of its customer."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.live import LiveSite, live_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    with live_site(tmp_path_factory.mktemp("var")) as site:
        site.manage("create_tenant", "acme")
        made = site.manage("create_api_key", "acme", "--name", "test", "--scopes", "read,manage", "--json")
        site.env["TEST_KEY"] = json.loads(made)["key"]
        yield site


@pytest.fixture
def api(site: LiveSite) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {site.env['TEST_KEY']}"}
    with httpx.Client(base_url=f"{site.url}/api/v1", headers=headers, timeout=120) as client:
        yield client
