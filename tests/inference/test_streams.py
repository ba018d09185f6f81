"""Answers by server-sent events, on a real server, with a fake recipe that tells a word each twentieth of a second."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from inference.engines.base import Tensors
from inference.plane.streams import Streams
from inference.work import Reply, Work
from modelhub import priority
from tests.inference.conftest import PlaneSite

URL = "/api/v1/deployments/speller/predict"
EVENTS = {"content-type": "text/plain", "accept": "text/event-stream"}
MOST_OF_TENANT = 4
WORDS = 500
FOR_LONG = " ".join(["word"] * WORDS)


@pytest.fixture
def client(speaking: PlaneSite) -> Iterator[httpx.Client]:
    with speaking.client() as found:
        yield found


def events(answer: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """The events of a whole answer: their names and their data."""
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = []
    for text in answer.text.strip().split("\n\n"):
        name, data = text.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_an_answer_comes_word_by_word_and_then_as_a_whole(client: httpx.Client) -> None:
    answer = client.post(URL, content="one banana more", headers=EVENTS)
    assert answer.status_code == 200
    *partial, (last, result) = events(answer)
    words = [data["text"] for name, data in partial if name == "partial"]
    assert words  # on a busy host one may take the place of another before that was sent
    assert words == [text for text in ("one", "one banana", "one banana more") if text in words]
    assert len(words) == len(partial)
    whole = client.post(URL, content="one banana more", headers={"content-type": "text/plain"}).json()
    assert (last, result["request_id"]) == ("result", answer.headers["x-request-id"])
    assert {**result, "request_id": ""} == {**whole, "request_id": ""}
    assert (whole["vowels"], "ratelimit" in answer.headers) == (7, True)


def test_what_is_refused_at_once_is_an_ordinary_refusal_and_later_an_event(client: httpx.Client) -> None:
    at_once = client.post(URL, json={"instances": [""]}, headers={"accept": "text/event-stream"})
    assert (at_once.status_code, at_once.headers["content-type"]) == (400, "application/problem+json")
    later = client.post(URL, content="well well stumble", headers=EVENTS)
    *_, (name, problem) = events(later)
    assert (later.status_code, name) == (200, "error")
    assert (problem["status"], problem["detail"]) == (400, "Word 3 cannot be spelled.")
    nobody = client.post(URL, content="a", headers=EVENTS | {"authorization": "Bearer none"})
    assert nobody.status_code == 401


def test_who_cannot_tell_before_the_end_tells_at_the_end(client: httpx.Client) -> None:
    answer = client.post("/api/v1/deployments/vowels/predict", content="banana", headers=EVENTS)
    ((name, result),) = events(answer)
    assert (name, result["amount"], result["vowels"]) == ("result", "many", 3)
    several = client.post(URL, json={"instances": ["a", "b"]}, headers={"accept": "text/event-stream"})
    ((name, result),) = events(several)
    assert (name, len(result["predictions"])) == ("result", 2)
    other = client.post("/v1/models/speller:predict", json={"instances": ["a"]}, headers=EVENTS)
    assert other.headers["content-type"] == "application/json"


def test_a_deadline_ends_it_with_an_error(client: httpx.Client) -> None:
    answer = client.post(URL, content=FOR_LONG, headers=EVENTS | {"x-request-timeout": "0.5"})
    *partial, (name, problem) = events(answer)
    assert (name, problem["status"]) == ("error", 504)
    assert 0 < len(partial) < WORDS


def test_a_tenant_has_a_few_streams_and_who_leaves_frees_his_at_the_next_step(speaking: PlaneSite) -> None:
    with speaking.client() as client, speaking.client(speaking.initech_key) as other:
        begun: list[Iterator[str]] = []
        with contextlib.ExitStack() as held:
            for _ in range(MOST_OF_TENANT):
                stream = held.enter_context(client.stream("POST", URL, content=FOR_LONG, headers=EVENTS))
                begun.append(stream.iter_lines())  # one that is let go closes its stream
                assert next(begun[-1]) == "event: partial"
            refused = client.post(URL, content="one", headers=EVENTS)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert events(other.post(URL, content="one", headers=EVENTS))[-1][0] == "result"
            plain = client.post(URL, content="one", headers={"content-type": "text/plain"})
            assert plain.status_code == 200  # streams hold up no batch
        deadline = time.monotonic() + 15  # each of them would go on for longer
        while client.post(URL, content="one", headers=EVENTS).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_stream_is_billed_once_and_so_is_what_was_left_halfway(speaking: PlaneSite) -> None:
    with speaking.client(speaking.initech_key) as client:
        query = {"meter": "predictions", "deployment": "speller"}

        def billed() -> float:
            rows = client.get("/api/v1/usage", params=query).json()["results"]
            return sum(float(row["quantity"]) for row in rows)

        def wait_for(amount: float) -> None:
            deadline = time.monotonic() + 20
            while billed() < amount:
                assert time.monotonic() < deadline, billed()
                time.sleep(0.2)

        client.post(URL, content="one two three", headers=EVENTS).raise_for_status()
        before = -1.0
        while before != billed():  # what the tests before this one asked for is still on its way
            before = billed()
            time.sleep(6)
        client.post(URL, content="one two three", headers=EVENTS).raise_for_status()
        client.post(URL, content="well stumble", headers=EVENTS).raise_for_status()  # its end is an error: no bill
        wait_for(before + 1)
        with client.stream("POST", URL, content=FOR_LONG, headers=EVENTS) as stream:
            assert next(stream.iter_lines()) == "event: partial"
        wait_for(before + 2)
        time.sleep(1)
        assert billed() == before + 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness of each thread")
def test_a_stream_gives_way_to_the_event_loop() -> None:
    """The loop, the version and the exchange are fakes, for nobody hears of this stream."""
    seen: SimpleQueue[int] = SimpleQueue()

    def stream(work: Work) -> Generator[dict[str, Any], None, Tensors]:
        seen.put(os.getpriority(os.PRIO_PROCESS, 0))
        yield {}
        return {}

    queue = SimpleNamespace(borrow=lambda: None)
    version = SimpleNamespace(queue=queue, tenant_id="ten_a", stream=stream, give_back=lambda: None)
    loop = SimpleNamespace(call_soon_threadsafe=lambda *told: None)
    streams = Streams(cast(Any, loop), cast(Any, None))
    streams.begin(cast(Any, SimpleNamespace(left=False)), cast(Any, version), Work(1, 0.0, lambda outputs: Reply(b"")))
    assert seen.get(timeout=30) == os.getpriority(os.PRIO_PROCESS, 0) + priority.ENGINES
    streams.stop()
