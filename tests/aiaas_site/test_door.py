"""The door: which server answers what, and by which database role it refuses to open."""

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from aiaas_site import asgi, embedded_database
from tests.live import LiveSite, free_port, live_site


@pytest.fixture(scope="module")
def site() -> Iterator[LiveSite]:
    with tempfile.TemporaryDirectory(prefix="aiaas-") as var, live_site(Path(var)) as found:
        yield found


def test_each_role_answers_its_own_paths(site: LiveSite) -> None:
    ports = {role: free_port() for role in ("plane", "web")}
    for role, port in ports.items():
        process = site.spawn("-m", "aiaas_site.server", "--port", str(port), "--role", role)
        site.wait_until_ready(process, f"http://127.0.0.1:{port}")
    answers = {
        (role, path): httpx.get(f"http://127.0.0.1:{port}{path}").status_code
        for role, port in ports.items()
        for path in ("/api/v1/me", "/v1/models/cats", "/api/docs/")
    }
    assert answers == {
        ("plane", "/api/v1/me"): 404,
        ("plane", "/v1/models/cats"): 401,
        ("plane", "/api/docs/"): 404,
        ("web", "/api/v1/me"): 401,
        ("web", "/v1/models/cats"): 404,
        ("web", "/api/docs/"): 200,
    }


def test_a_body_over_the_limit_is_refused_before_it_is_read(site: LiveSite) -> None:
    port = free_port()
    process = site.spawn("-m", "aiaas_site.server", "--port", str(port), API_MAX_BODY_BYTES="1000")
    site.wait_until_ready(process, f"http://127.0.0.1:{port}")
    answer = httpx.post(f"http://127.0.0.1:{port}/api/v1/datasets", content=b"x" * 1001)
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:aiaas:problem:too-large")


def test_a_superusers_server_does_not_open(site: LiveSite) -> None:
    url = site.env["DATABASE_URL"].replace(f"//{embedded_database.ROLE}@", "//postgres@")
    process = site.spawn("-m", "aiaas_site.server", "--port", str(free_port()), DATABASE_URL=url)
    assert process.wait(30) != 0


def test_a_server_looks_through_everything_for_garbage_seldom() -> None:
    before, kept = gc.get_threshold(), gc.get_freeze_count()
    try:
        asgi._keep_what_is_there()
        assert gc.get_threshold() == (*before[:2], asgi.FULL_COLLECTION_AFTER)
        assert before[2] < asgi.FULL_COLLECTION_AFTER
        assert gc.get_freeze_count() > kept
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
