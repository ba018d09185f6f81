"""What was answered, as the service counts it: histograms, Triton's statistics, Prometheus's page."""

import asyncio
import re
import time
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.plane import metrics
from inference.plane.statistics import BUCKETS, bucket, no_counts, quantile, upper_bound
from tests.inference.conftest import PlaneSite
from tests.lines import Line
from tests.live import free_port

TOKEN = "a-token-for-prometheus"


@given(st.integers(0, 2**40))
def test_a_duration_is_in_the_bucket_that_bounds_it(microseconds: int) -> None:
    index = bucket(microseconds)
    assert 0 <= index < BUCKETS
    if index < BUCKETS - 1:
        below = upper_bound(index - 1) if index else 0
        assert below <= microseconds < upper_bound(index)
        assert upper_bound(index) - below <= max(1, below / 8 + 1)


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_within_an_eighth(durations: list[int], share: float) -> None:
    histogram = no_counts()
    for one in durations:
        histogram[bucket(one)] += 1
    exact = sorted(durations)[max(0, -(-len(durations) * int(share * 100) // 100) - 1)]
    found = quantile(histogram, share)
    assert found is not None
    assert exact <= found * 1000 <= exact * 1.125 + 1


@given(st.lists(st.integers(1, 10**8), max_size=100))
def test_a_fine_histogram_is_told_in_coarse_steps(durations: list[int]) -> None:
    histogram = no_counts()
    for one in durations:
        histogram[bucket(one)] += 1
    told = metrics.in_steps(histogram, metrics.SECONDS, 1e-6)
    assert sum(told["counts"]) == len(durations)
    assert len(told["counts"]) == len(metrics.SECONDS) + 1
    for at, step in enumerate(metrics.SECONDS):  # a fine bucket reaches at most an eighth above or below its step
        below = sum(told["counts"][: at + 1])
        assert sum(one * 1e-6 < step / 1.13 for one in durations) <= below
        assert below <= sum(one * 1e-6 <= step * 1.13 for one in durations)
    exact = sum(min(one, upper_bound(BUCKETS - 1)) * 1e-6 for one in durations)
    assert told["sum"] == pytest.approx(exact, rel=1 / 8, abs=1e-6 * len(durations))


def test_nothing_has_no_quantile() -> None:
    assert quantile(no_counts(), 0.99) is None


@pytest.fixture(scope="module")
def watched(plane: PlaneSite) -> Iterator[str]:
    """Two server processes on one port, whose metrics may be read: their address."""
    port = free_port()
    server = plane.site.start_server(port=port, processes=2, METRICS_TOKEN=TOKEN)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(30)


def read(url: str) -> dict[str, float]:
    text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    return {name: float(value) for name, value in re.findall(r"^(aiaas_\S+) (\S+)$", text, re.MULTILINE)}


def test_metrics_are_the_sum_over_processes(plane: PlaneSite, watched: str) -> None:
    headers = {"X-API-Key": plane.acme_key}
    time.sleep(1.5)
    before = read(watched)
    for _ in range(40):  # each on a connection of its own, so that both processes have some
        assert httpx.post(f"{watched}/v1/models/tiny:predict", json={"instances": [[1, 2, 3, 4]] * 2}, headers=headers)
        assert httpx.post(f"{watched}/v1/models/tiny:predict", content=b"{", headers=headers).status_code == 400
    deadline = time.monotonic() + 10
    wanted = {"aiaas_rows_total": 80, 'aiaas_requests_total{status="4xx"}': 40}
    while any((after := read(watched)).get(name, 0) < before.get(name, 0) + more for name, more in wanted.items()):
        assert time.monotonic() < deadline, after
        time.sleep(0.2)  # each process writes what it counted once a second
    assert after['aiaas_requests_total{status="4xx"}'] == before['aiaas_requests_total{status="4xx"}'] + 40
    assert after["aiaas_request_seconds_count"] >= before["aiaas_request_seconds_count"] + 80
    assert after["aiaas_batch_rows_sum"] == before["aiaas_batch_rows_sum"] + 80
    assert after["aiaas_processes"] == 3  # the plane of the other tests shares the folder
    assert not [name for name in after if "tiny" in name or "acme" in name or "ten_" in name]


def wait_for(url: str, name: str, least: float) -> dict[str, float]:
    deadline = time.monotonic() + 10
    while (found := read(url)).get(name, 0) < least:
        assert time.monotonic() < deadline, (name, found.get(name), least)
        time.sleep(0.2)
    return found


def test_loads_the_response_cache_and_refusals_are_counted(plane: PlaneSite, watched: str) -> None:
    with plane.client() as client:
        assert client.patch("/api/v1/deployments/tiny", json={"cache_seconds": 60}).status_code == 200
        time.sleep(1.5)
        before = read(watched)
        for _ in range(3):
            assert client.post("/v1/models/tiny:predict", json={"instances": [[7, 7, 7, 7]]}).status_code == 200
        assert client.post("/api/v1/deployments/tiny/pause").status_code == 200
        time.sleep(1.0)
        assert client.post("/v1/models/tiny:predict", json={"instances": [[7, 7, 7, 7]]}).status_code == 503
        assert client.post("/api/v1/deployments/tiny/resume").status_code == 200
        assert client.patch("/api/v1/deployments/tiny", json={"cache_seconds": 0}).status_code == 200
    name = 'aiaas_refusals_total{reason="unavailable"}'
    after = wait_for(watched, name, before.get(name, 0) + 1)
    assert after["aiaas_cache_misses_total"] == before["aiaas_cache_misses_total"] + 1
    assert after["aiaas_cache_hits_total"] == before["aiaas_cache_hits_total"] + 2
    assert after["aiaas_cache_bytes"] > before["aiaas_cache_bytes"]
    assert after["aiaas_version_load_seconds_count"] == after["aiaas_version_loads_total"] > 0
    assert after["aiaas_version_load_seconds_sum"] > 0
    assert after['aiaas_version_load_seconds_bucket{le="+Inf"}'] == after["aiaas_version_load_seconds_count"]


def test_who_leaves_is_counted_once_and_is_no_fault(crowd: PlaneSite, watched: str) -> None:
    """Its deadline passes later; that must not look like a request that the server failed."""
    time.sleep(1.2)
    before = read(watched)
    total = 60

    async def main() -> None:
        callers = [await Line(crowd.site.port, crowd.acme_key, timeout=1.5).open() for _ in range(total)]
        for caller in callers:
            caller.send("/v1/models/switched:predict", b'{"instances": [[1, 2, 3, 4], [5, 6, 7, 8]]}')
        await asyncio.sleep(0.01)
        for caller in callers:
            caller.leave()
        await asyncio.sleep(0.1)

    asyncio.run(main())
    time.sleep(3.0)
    after = read(watched)
    left = after["aiaas_abandoned_total"] - before["aiaas_abandoned_total"]
    answered = (after["aiaas_rows_total"] - before["aiaas_rows_total"]) / 2
    assert 0 < left <= total
    assert left + answered >= total  # each left or was answered; one whose batch ran when it left is in both
    assert after.get('aiaas_refusals_total{reason="deadline-exceeded"}', 0) == before.get(
        'aiaas_refusals_total{reason="deadline-exceeded"}', 0
    )


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_metrics_are_for_who_has_the_token(watched: str, headers: dict[str, str]) -> None:
    assert httpx.get(f"{watched}/metrics", headers=headers).status_code == 404


def test_without_a_token_there_are_no_metrics(plane: PlaneSite) -> None:
    assert httpx.get(f"{plane.site.url}/metrics", headers={"Authorization": "Bearer x"}).status_code == 404
