"""What a server does at its limits, and when what it stands on fails: it refuses with words, and goes on."""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from inference.plane.directory import STALE_AFTER, Directory, KeyEntry, TenantEntry
from tenants.errors import Unauthenticated, Unavailable
from tests.inference.conftest import PlaneSite
from tests.inference.test_plane import PREDICT, ROWS, picture
from tests.live import free_port
from tests.publishing import make_key

ROWS_QUEUED = 4


@pytest.fixture
def narrow(plane: PlaneSite) -> Iterator[tuple[str, str]]:
    """A second server of the same site, with short queues: its address, and its own spool's folder name."""
    port = free_port()
    before = set((plane.site.var / "spool").iterdir())
    server = plane.site.start_server(port=port, INFERENCE_MAX_QUEUED_ROWS=str(ROWS_QUEUED), INFERENCE_THREADS="1")
    (own,) = set((plane.site.var / "spool").iterdir()) - before
    yield f"http://127.0.0.1:{port}", str(own)
    server.terminate()
    server.wait(20)


def test_a_full_queue_refuses_with_retry_after(plane: PlaneSite, narrow: tuple[str, str]) -> None:
    url, _ = narrow
    headers = {"X-API-Key": plane.acme_key, "Content-Type": "image/png"}
    sent = picture("PNG", (900, 900))

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{url}/api/v1/deployments/cats/predict", content=sent, headers=headers, timeout=30)

    assert ask(0).status_code == 200
    with ThreadPoolExecutor(24) as callers:
        answers = list(callers.map(ask, range(72)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert f"its queue takes {ROWS_QUEUED}" in refused[0].json()["detail"]
    assert ask(0).status_code == 200


def test_without_its_spool_it_answers_nothing(plane: PlaneSite, narrow: tuple[str, str]) -> None:
    url, spool = narrow
    headers = {"X-API-Key": plane.acme_key}
    assert httpx.post(url + PREDICT, json=ROWS, headers=headers).status_code == 200
    time.sleep(1.5)  # the segment is closed and shipped, so that the next answer needs a new file
    shutil.rmtree(spool)
    refused = httpx.post(url + PREDICT, json=ROWS, headers=headers)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert "Usage cannot be recorded" in refused.json()["error"]


def test_a_lost_feed_is_taken_up_again(plane: PlaneSite) -> None:
    plane.site.superuser("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'")
    with plane.client() as client:
        assert client.post(PREDICT, json=ROWS).status_code == 200  # it lost sight for less than the limit
    key = make_key(plane.site, "acme")
    deadline = time.monotonic() + 5
    with plane.client(key) as client:
        while client.post(PREDICT, json=ROWS).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_directory_that_hears_nothing_is_trusted_no_longer() -> None:
    directory = Directory()
    directory.heard(100.0)
    directory.check_fresh(100.0 + STALE_AFTER)
    with pytest.raises(Unavailable):
        directory.check_fresh(100.1 + STALE_AFTER)


def test_a_key_ends_by_the_clock_and_with_its_tenant() -> None:
    directory = Directory()
    tenant = TenantEntry(id="ten_a", name="a", deployments={})
    key = KeyEntry(id="key_a", digest=b"a", tenant=tenant, scopes=frozenset({"predict"}), expires_at=50.0)
    directory.replace("ten_a", [key], tenant)
    assert directory.key(b"a", now=49.9) is key
    with pytest.raises(Unauthenticated):
        directory.key(b"a", now=50.0)
    directory.replace_all({})
    with pytest.raises(Unauthenticated):
        directory.key(b"a", now=1.0)
