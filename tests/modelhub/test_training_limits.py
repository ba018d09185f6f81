"""What a plan lets the trainer do for its tenants."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from modelhub import training, training_limits
from modelhub.models import TrainingJob
from modelhub.trainer import brief
from tenants import scoping
from tenants.models import Plan
from tests.conftest import Account
from tests.modelhub.places import places
from tests.modelhub.test_training import JOBS, claimed, queued, sealed, shown, surely_claimed, wanted
from tests.threads import in_threads

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")


def limit(**limits: int) -> None:
    Plan.objects.filter(pk="standard").update(**limits)


def test_a_plan_without_limits_has_the_services(acme: Account, settings: Settings) -> None:
    settings.TRAINING_MAX_SECONDS, settings.TRAINING_MAX_MEMORY_BYTES = 77, 88
    found = training_limits.of(acme.tenant.plan)
    assert (found.seconds, found.memory_bytes, found.at_once, found.in_words) == (77, 88, None, "")


def test_no_more_jobs_of_a_tenant_run_than_its_plan_lets_and_others_go_on(
    acme_client: APIClient, globex_client: APIClient
) -> None:
    limit(training_jobs_at_once=2)
    dataset = sealed(acme_client)
    ours = [queued(acme_client, dataset) for _ in range(3)]
    assert [surely_claimed().job_id, surely_claimed().job_id] == ours[:2]
    assert claimed() is None
    theirs = queued(globex_client, sealed(globex_client, first=50))
    assert surely_claimed().job_id == theirs
    with scoping.operator():
        hold = training.hold_of(TrainingJob.across_tenants.get(pk=ours[0]))
        training.fail(hold=hold, error="No.", seconds=Decimal(1), now=timezone.now())
    assert surely_claimed().job_id == ours[2]
    assert shown(acme_client, ours[2])["state"] == "running"


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_trainers_that_claim_at_once_start_no_more_than_the_plan_lets(acme_client: APIClient) -> None:
    limit(training_jobs_at_once=2)
    dataset = sealed(acme_client)
    jobs = [queued(acme_client, dataset) for _ in range(6)]
    taken: list[str] = []

    def work(number: int) -> None:
        for _ in range(10):
            if hold := claimed(f"trainer-{number}"):
                taken.append(hold.job_id)

    in_threads(work, 4)
    assert len(set(taken)) == len(taken) == 2
    assert set(taken) <= set(jobs)


def test_one_whose_trainer_is_gone_is_taken_over_although_the_plan_is_full(acme_client: APIClient) -> None:
    limit(training_jobs_at_once=1)
    job = queued(acme_client)
    surely_claimed("one")
    with scoping.operator():
        TrainingJob.across_tenants.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert surely_claimed("two").job_id == job


def test_a_job_may_use_what_its_plan_says(acme_client: APIClient) -> None:
    limit(training_job_seconds=100, training_job_bytes=5 * 1024**2)
    queued(acme_client)
    surely_claimed()
    with scoping.operator():
        job = TrainingJob.across_tenants.select_related("tenant__plan").get()
        limits = brief.limits_of(job, None)
    assert (limits.seconds, limits.memory_bytes) == (100, 5 * 1024**2)


def test_a_quote_counts_with_the_plans_limits(acme_client: APIClient) -> None:
    limit(training_job_seconds=100, training_jobs_at_once=1)
    quoted = acme_client.post(f"{JOBS}/quote", wanted(sealed(acme_client)), format="json").json()
    assert quoted["at_most"]["quantity"] == "100"
    assert quoted["assumes"][:2] == [
        "A job takes 100 seconds at most, and one that fails is not billed.",
        "One job of yours at most can run at a time by the plan Standard; further ones wait.",
    ]


def test_a_plan_that_lets_no_job_be_done_is_none(admin_client: Client) -> None:
    with pytest.raises(IntegrityError, match="plan_lets_a_job_be_done"), transaction.atomic():
        limit(training_jobs_at_once=0)
    page = admin_client.get("/admin/tenants/plan/standard/change/")
    assert b"training_jobs_at_once" in page.content
