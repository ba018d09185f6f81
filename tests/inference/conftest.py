"""A live site whose tenants have small models deployed, for the tests that speak to a real server."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks import models
from tests.live import LiveSite, live_site
from tests.publishing import CNN, IDENTITY, TINY, make_key, publish


@dataclass
class PlaneSite:
    """A site with the tenants acme and globex, and acme's deployments `tiny`, `identity` and `cats`."""

    site: LiveSite
    acme_key: str
    globex_key: str
    files: dict[str, Path]

    def client(self, key: str | None = None) -> httpx.Client:
        return httpx.Client(
            base_url=self.site.url, headers={"Authorization": f"Bearer {key or self.acme_key}"}, timeout=30
        )

    def wait_until_loaded(self, *names: str) -> None:
        with self.client() as client:
            for name in names:
                assert client.post(f"/v1/models/{name}:predict", json={"instances": [[0, 0, 0, 0]]}).status_code < 500


def open_site(site: LiveSite, files: dict[str, Path]) -> PlaneSite:
    for tenant in ("acme", "globex"):
        site.manage("create_tenant", tenant)
    publish(site, tenant="acme", model="tiny", path=files["tiny.tflite"], deployment="tiny", **TINY)
    publish(site, tenant="acme", model="identity", path=files["identity.tflite"], deployment="identity", **IDENTITY)
    publish(site, tenant="acme", model="cats", path=files["cnn.int8.tflite"], deployment="cats", **CNN)
    return PlaneSite(site, make_key(site, "acme"), make_key(site, "globex"), files)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return models.made(folder, "tiny.tflite", "identity.tflite", "cnn.int8.tflite")


@pytest.fixture(scope="session")
def plane(model_files: dict[str, Path]) -> Iterator[PlaneSite]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        found = open_site(site, model_files)
        site.start_server()
        found.wait_until_loaded("tiny", "identity", "cats")
        yield found
