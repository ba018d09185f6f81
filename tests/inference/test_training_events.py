"""Server-sent events of a training: what a client is told, once, wherever it takes the stream up again."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from inference.plane import event_sources
from inference.plane.event_sources import Cursor, Event, Seen, TrainingJobs
from modelhub import training
from modelhub.job_queue import Hold
from modelhub.models import TrainingJob
from tenants import scoping
from tenants.errors import NotFound
from tests.conftest import Account
from tests.modelhub.places import places
from tests.modelhub.test_training import queued, sealed, surely_claimed

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def look(account: Account, job: str) -> Seen:
    """The job as the server looks at it, again and again."""
    with scoping.operator():
        return TrainingJobs().look({job})[job]


def told(seen: Seen, last_id: str = "") -> list[Event]:
    """All that is new, however many times one has to ask."""
    events: list[Event] = []
    while True:
        news = seen.after(last_id)
        events += news.events
        if not news.more:
            return events
        last_id = events[-1].id


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


def report(hold: Hold, *, epochs: int, lines: range = range(0), done: int = 1) -> None:
    with scoping.operator():
        training.report(
            hold=hold,
            progress={"phase": "training", "done": done, "total": 9},
            history=[{"epoch": number, "loss": 1 / number} for number in range(1, epochs + 1)],
            lines=[(number, NOW, f"line {number}") for number in lines],
        )


def end(hold: Hold) -> None:
    with scoping.operator():
        training.fail(hold=hold, error="No.", seconds=Decimal(1), now=timezone.now())


@pytest.fixture
def job(acme: Account, acme_client: APIClient) -> str:
    return queued(acme_client)


def test_a_stream_begins_with_all_there_is(acme: Account, job: str) -> None:
    (waits,) = told(look(acme, job))
    assert (waits.name, waits.data["state"], waits.data["id"]) == ("state", "queued", job)
    report(surely_claimed(), epochs=2, lines=range(1, 4))
    events = told(look(acme, job))
    assert names(events) == ["log"] * 3 + ["state"] + ["epoch"] * 2 + ["progress"]
    assert [event.data["text"] for event in events[:3]] == ["line 1", "line 2", "line 3"]
    assert events[-2].data == {"epoch": 2, "loss": 0.5}
    assert events[-1].data == {"phase": "training", "done": 1, "total": 9}
    body = events[-2].as_bytes().decode()
    assert body.startswith(f"id: {events[-2].id}\nevent: epoch\ndata: ")
    assert body.endswith("\n\n")
    assert json.loads(body.split("data: ")[1]) == events[-2].data


def test_whoever_comes_back_is_told_the_rest_wherever_it_left(acme: Account, job: str) -> None:
    hold = surely_claimed()
    report(hold, epochs=3, lines=range(1, 6))
    end(hold)
    every = told(look(acme, job))
    assert names(every) == ["log"] * 5 + ["epoch"] * 3 + ["state"]
    for place, event in enumerate(every):
        assert told(look(acme, job), event.id) == every[place + 1 :]


def test_what_was_seen_is_not_told_again_and_what_is_new_is(acme: Account, job: str) -> None:
    hold = surely_claimed()
    report(hold, epochs=1, lines=range(1, 3))
    last = told(look(acme, job))[-1].id
    report(hold, epochs=2, lines=range(3, 4), done=2)
    events = told(look(acme, job), last)
    assert names(events) == ["log", "epoch", "progress"]
    assert (events[0].data["number"], events[1].data["epoch"], events[2].data["done"]) == (3, 2, 2)


def test_a_long_log_is_told_in_parts(acme: Account, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_sources, "LINES", 4)
    report(surely_claimed(), epochs=0, lines=range(1, 11))
    first = look(acme, job).after("")
    assert (len(first.events), first.more) == (4, True)
    assert [event.data["number"] for event in told(look(acme, job)) if event.name == "log"] == list(range(1, 11))


def test_the_end_is_the_last_event_and_after_it_there_is_nothing(acme: Account, job: str) -> None:
    hold = surely_claimed()
    report(hold, epochs=1, lines=range(1, 2))
    end(hold)
    seen = look(acme, job)
    assert seen.has_ended
    events = told(seen)
    assert events[-1].name == "state"
    assert events[-1].data == {
        "id": job, "state": "failed", "attempt": 1, "error": "No.", "stop_reason": None
    }  # fmt: skip
    assert told(seen, events[-1].id) == []


def test_an_attempt_that_begins_anew_tells_its_epochs_anew(acme: Account, job: str) -> None:
    hold = surely_claimed()
    report(hold, epochs=3)
    last = told(look(acme, job))[-1].id
    with scoping.operator():
        TrainingJob.across_tenants.filter(pk=job).update(attempt=2, history=[{"epoch": 1, "loss": 9.0}])
    events = told(look(acme, job), last)
    assert [(event.name, event.data.get("attempt", event.data.get("epoch"))) for event in events[:2]] == [
        ("state", 2),
        ("epoch", 1),
    ]


@pytest.mark.parametrize("text", ["", "none", "1-2-3", "1-2-3-running-4", "a-b-c-running", "9" * 60, "1-2-3-\u00e9"])
def test_an_id_that_is_none_of_ours_has_seen_nothing(text: str) -> None:
    assert Cursor.of(text) == Cursor()
    assert Cursor.of(str(Cursor(1, 2, 3, "running"))) == Cursor(1, 2, 3, "running")


def test_anothers_job_is_not_there(acme: Account, globex: Account, job: str) -> None:
    with scoping.tenant(acme.tenant.pk):
        assert TrainingJobs().get(tenant_id=acme.tenant.pk, job_id=job).job_id == job
    with scoping.tenant(globex.tenant.pk), pytest.raises(NotFound):
        TrainingJobs().get(tenant_id=globex.tenant.pk, job_id=job)


def test_jobs_of_several_tenants_are_looked_at_in_three_queries_at_most(
    acme_client: APIClient, globex_client: APIClient, django_assert_max_num_queries: Any
) -> None:
    jobs = [queued(acme_client), queued(globex_client, sealed(globex_client, first=40))]
    with scoping.operator(), django_assert_max_num_queries(3):
        assert set(TrainingJobs().look(jobs)) == set(jobs)
