"""Limits and caps over the API, by the operator and by commands: who may set what, and what is told of."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import letters, scoping
from tenants.errors import Invalid, OverQuota
from tenants.keys import api_keys
from tenants.ledger import usage
from tenants.limits import quota_limits, quotas, spend_caps
from tenants.models import AuditEvent, Notice, Plan, Price, QuotaBucket, Tenant
from tests.conftest import Account
from tests.tenants.test_commands import run
from tests.tenants.test_usage import an_event

LIMITS, QUOTAS, CAP = "/api/v1/quota-limits", "/api/v1/quotas", "/api/v1/spend-cap"
DAY = {"scope": "tenant", "meter": "predictions", "period": "day"}


@pytest.fixture
def deployments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_limits, "deployment_exists", lambda tenant, name: name == "cats")


def post(client: APIClient, **body: Any) -> Any:
    return client.post(LIMITS, DAY | body, format="json")


def by_operator(tenant: Tenant, limit: Any, **place: str) -> None:
    with scoping.operator():
        quota_limits.put(
            tenant=tenant, limit=limit, set_by="operator", actor="operator:test", now=timezone.now(), **(DAY | place)
        )


def states(client: APIClient) -> dict[tuple[str, str], dict[str, Any]]:
    rows = client.get(QUOTAS).json()["results"]
    return {(row["scope"], row["meter"] if row["period"] == "always" else row["period"]): row for row in rows}


def used(tenant: Tenant, count: int, segment: str, producer: str = "p1", **ask: int) -> None:
    event = an_event(tenant.pk, at_ms=int(timezone.now().timestamp() * 1000), requests=1, predictions=count)
    usage.take_segment(segment_id=segment, producer=producer, data=usage.encode(event), watermark=None)


def lease(tenant: Tenant, period: str, units: int, producer: str = "p1") -> quotas.Grant:
    ask = quotas.Ask("tenant", "predictions", period, units, units)
    (grant,) = quotas.lease(tenant_id=tenant.pk, producer=producer, asks=[ask])
    return grant


# Limits


def test_a_limit_is_set_replaced_listed_and_removed(acme: Account, acme_client: APIClient) -> None:
    first = post(acme_client, limit=100)
    assert first.status_code == 201
    again = post(acme_client, limit=50).json()
    assert (again["id"], again["limit"], again["set_by"]) == (first.json()["id"], 50, "tenant")
    assert [row["limit"] for row in acme_client.get(LIMITS).json()["results"]] == [50]
    assert states(acme_client)["tenant", "day"]["remaining"] == 50
    assert acme_client.delete(f"{LIMITS}/{again['id']}").status_code == 204
    assert acme_client.get(f"{LIMITS}/{again['id']}").status_code == 404
    assert ("tenant", "day") not in states(acme_client)
    with scoping.operator():
        verbs = list(AuditEvent.objects.for_tenant(acme.tenant).order_by("id").values_list("verb", flat=True))
    assert verbs[-3:] == ["quota_limit.put", "quota_limit.put", "quota_limit.remove"]


def test_a_retried_post_sets_once(acme_client: APIClient) -> None:
    body = DAY | {"limit": 7}
    first, again = (acme_client.post(LIMITS, body, format="json", HTTP_IDEMPOTENCY_KEY="k") for _ in range(2))
    assert first.json() == again.json()
    assert again["Idempotent-Replayed"] == "true"


@pytest.mark.usefixtures("deployments")
def test_keys_and_deployments_have_limits_of_their_own(acme: Account, acme_client: APIClient) -> None:
    with scoping.operator():
        key = api_keys.create(tenant=acme.tenant, name="k", scopes=["predict"], actor="t", now=timezone.now()).row.pk
    assert post(acme_client, scope=f"key:{key}", period="minute", limit=5).status_code == 201
    assert post(acme_client, scope="deployment:cats", period="month", limit=6).status_code == 201
    concurrency = {"meter": "concurrency", "period": "always"}
    assert post(acme_client, scope=f"key:{key}", limit=3, **concurrency).status_code == 201
    found = states(acme_client)
    assert found[f"key:{key}", "minute"]["limit"] == 5
    assert found["deployment:cats", "month"]["limit"] == 6
    assert found[f"key:{key}", "concurrency"]["limit"] == 3


def test_a_tenant_may_only_tighten_and_the_operator_may_raise(acme: Account, acme_client: APIClient) -> None:
    plan = acme.tenant.plan.predictions_per_month
    assert plan is not None
    refused = post(acme_client, period="month", limit=plan + 1)
    assert refused.status_code == 400
    assert f"The plan says {plan:,}" in refused.json()["detail"]
    by_operator(acme.tenant, plan * 2, period="month")
    assert (
        states(acme_client)["tenant", "month"] | {"limit": plan * 2, "set_by": "operator"}
        == states(acme_client)["tenant", "month"]
    )
    assert post(acme_client, period="month", limit=plan + 1).status_code == 201
    refused = post(acme_client, period="month", limit=plan * 2 + 1)
    assert "The operator has set" in refused.json()["detail"]
    by_operator(acme.tenant, 10, period="month")  # the tighter of the two holds, whoever came last
    assert states(acme_client)["tenant", "month"]["limit"] == 10


def test_a_tenant_does_not_remove_the_operators_limit(acme: Account, acme_client: APIClient) -> None:
    by_operator(acme.tenant, 10)
    (row,) = acme_client.get(LIMITS).json()["results"]
    refused = acme_client.delete(f"{LIMITS}/{row['id']}")
    assert refused.status_code == 403
    assert "set by the operator" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": 0}, "limit"),
        ({"limit": 10**15 + 1}, "limit"),
        ({"limit": 10**40}, "limit"),
        ({"limit": "NaN"}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": None}, "limit"),
        ({}, "limit"),
        ({"limit": 1, "meter": "coffee"}, "meter"),
        ({"limit": 1, "period": "year"}, "period"),
        ({"limit": 1, "period": "always"}, "period"),
        ({"limit": 1, "meter": "concurrency"}, "period"),
        ({"limit": 1, "scope": "key:key_00000000000000000000000000"}, "scope"),
        ({"limit": 1, "scope": "deployment:dogs"}, "scope"),
        ({"limit": 1, "scope": "deployment:"}, "scope"),
        ({"limit": 1, "scope": "planet:earth"}, "scope"),
        ({"limit": 1, "scope": "tenant:other"}, "scope"),
        ({"limit": 1, "scope": "key:" + "x" * 200}, "scope"),
        ({"limit": 1, "scope": "key:\x00"}, "scope"),
        ({"limit": 1, "unknown": 1}, "unknown"),
    ],
)
@pytest.mark.usefixtures("deployments")
def test_what_is_wrong_is_named(body: dict[str, Any], field: str, acme_client: APIClient) -> None:
    refused = post(acme_client, **body)
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert refused.json()["detail"].startswith(field)
    assert acme_client.get(LIMITS).json()["results"] == []


@pytest.mark.parametrize("limit", [-1, 0, 10**15 + 1, float("nan"), 1.0, "7", True, None])
def test_the_verb_takes_whole_numbers_only(limit: Any, acme: Account) -> None:
    with pytest.raises(Invalid, match="expected a whole number from 1 to"):
        by_operator(acme.tenant, limit)


def test_another_tenants_key_is_unknown(acme_client: APIClient, globex: Account, globex_client: APIClient) -> None:
    theirs = globex_client.get("/api/v1/api-keys").json()["results"][0]["id"]
    missing = post(acme_client, scope="key:" + theirs[:-4] + "0000", limit=1).json()["detail"]
    assert post(acme_client, scope=f"key:{theirs}", limit=1).json()["detail"].replace(theirs, "") == missing.replace(
        theirs[:-4] + "0000", ""
    )


def test_the_operators_command(acme: Account) -> None:
    assert "is now: 5 (set by the operator)" in run("set_quota_limit", "acme", "--period", "day", "--limit", "5")
    assert "is now: none" in run("set_quota_limit", "acme", "--period", "day", "--limit", "none")
    for wrong in ("-5", "0", "many", "nan"):
        with pytest.raises(CommandError, match="expected a whole number"):
            run("set_quota_limit", "acme", "--period", "day", f"--limit={wrong}")
    with pytest.raises(CommandError, match="The operator has set no limit"):
        run("set_quota_limit", "acme", "--period", "day", "--limit", "none")


def test_quotas_come_in_pages(acme: Account, acme_client: APIClient) -> None:
    by_operator(acme.tenant, 5)
    first = acme_client.get(QUOTAS, {"limit": 2}).json()
    rest = acme_client.get(first["next"]).json()
    assert [row["period"] for row in first["results"] + rest["results"]] == ["day", "minute", "month"]
    assert [row["period"] for row in acme_client.get(rest["previous"]).json()["results"]] == ["day", "minute"]


# What is told


def notices_of(tenant: Tenant) -> list[tuple[int, str]]:
    with scoping.operator():
        rows = Notice.objects.for_tenant(tenant).filter(kind="usage.threshold_reached").order_by("id")
        return [(row.data["percent"], row.data["what"]) for row in rows]


def test_80_and_100_percent_are_told_of_once_each(
    acme: Account, acme_client: APIClient, settings: Any, django_capture_on_commit_callbacks: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings.EMAIL_HOST = "mail.example"
    monkeypatch.setattr(letters, "_post", letters._send)
    acme.members["owner"].email = "owner@acme.example"
    acme.members["owner"].save()
    by_operator(acme.tenant, 100)
    with django_capture_on_commit_callbacks(execute=True):
        for number, (units, told) in enumerate([(79, []), (1, [80]), (1, [80]), (19, [80, 100])]):
            lease(acme.tenant, "day", units)
            used(acme.tenant, units, f"s{number}")
            assert [percent for percent, _ in notices_of(acme.tenant)] == told
            assert ("X-Quota-Warning" in acme_client.get("/api/v1/me").headers) == bool(told)
    assert acme_client.get("/api/v1/me")["X-Quota-Warning"] == '"day";used=100'
    assert [(letter.subject, letter.to) for letter in mail.outbox] == [
        ("80 % of a quota is used", ["owner@acme.example"]),
        ("100 % of a quota is used", ["owner@acme.example"]),
    ]
    by_operator(acme.tenant, 1000)
    lease(acme.tenant, "day", 1)
    assert "X-Quota-Warning" not in acme_client.get("/api/v1/me").headers


def test_without_a_mail_server_no_letter_is_written(
    acme: Account, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    by_operator(acme.tenant, 10)
    with django_capture_on_commit_callbacks(execute=True) as called:
        lease(acme.tenant, "day", 10)
        used(acme.tenant, 10, "s")
    assert notices_of(acme.tenant) == [(80, "quota"), (100, "quota")]
    assert not called


def test_a_letter_that_fails_is_logged(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    letters._send("80 %", "text", ["owner@acme.example"])
    assert "could not be sent" in caplog.text


# Spend caps


@pytest.fixture
def priced(acme: Account) -> Tenant:
    """acme on a plan without limits: 0.50 a prediction, 0.10 a request, and 1.00 a prediction from tomorrow."""
    plan = Plan.objects.create(code="priced", name="Priced")
    today = timezone.now().astimezone(UTC).date()
    for meter, day, amount in (
        ("predictions", today.replace(day=1), "0.50"),
        ("requests", today.replace(day=1), "0.10"),
    ):
        Price.objects.create(plan=plan, meter=meter, valid_from=day, amount=Decimal(amount), unit="one")
    with scoping.operator():
        acme.tenant.plan = plan
        acme.tenant.save()
    return acme.tenant


def cap(tenant: Tenant, amount: str, side: str = "tenant") -> None:
    with scoping.operator():
        spend_caps.put(tenant=tenant, amount=amount, set_by=side, actor="test")


def granted(tenant: Tenant) -> int:
    total = 0
    while units := lease_what_can_be_had(tenant).units:
        total += units
    return total


def lease_what_can_be_had(tenant: Tenant) -> quotas.Grant:
    (grant,) = quotas.lease(
        tenant_id=tenant.pk, producer="p1", asks=[quotas.Ask("tenant", "predictions", "month", 50, 1)]
    )
    return grant


def test_leases_end_where_the_money_does(priced: Tenant) -> None:
    cap(priced, "6.00")
    assert granted(priced) == 10  # at 0.60 each, should every prediction be a request of its own
    used(priced, 10, "s1")  # one request of ten rows: 5.10
    assert granted(priced) == 1
    used(priced, 1, "s2")  # 5.70
    refused = lease_what_can_be_had(priced)
    assert refused.refused
    assert refused.headroom is not None
    assert (refused.headroom.cost, refused.headroom.predictions) == (Decimal("5.70"), 0)
    cap(priced, "6.30")
    assert granted(priced) == 1


def test_the_dearest_price_of_the_rest_of_the_month_counts(priced: Tenant) -> None:
    now = datetime(2026, 11, 10, 12, tzinfo=UTC)
    plan = priced.plan
    Price.objects.filter(plan=plan).update(valid_from=datetime(2026, 1, 1, tzinfo=UTC).date())
    for day, amount in ((20, "2.00"), (25, "0.01")):
        Price.objects.create(
            plan=plan, meter="predictions", valid_from=datetime(2026, 11, day, tzinfo=UTC).date(),
            amount=Decimal(amount), unit="one",
        )  # fmt: skip
    cap(priced, "21.00")
    with scoping.operator():
        Tenant.objects.filter(pk=priced.pk).update(created_at=now - timedelta(days=9))
        found = spend_caps.headroom(tenant_id=priced.pk, leased=3, now=now)
    assert found is not None
    assert found.predictions == 10 - 3  # at 2.10


def test_the_lower_cap_of_the_two_holds(priced: Tenant) -> None:
    cap(priced, "60.00", "operator")
    cap(priced, "1.20")
    assert granted(priced) == 2
    with scoping.operator():
        spend_caps.remove(tenant=priced, set_by="tenant", actor="test")
    assert lease_what_can_be_had(priced).units > 0


def test_a_reached_cap_refuses_new_jobs_and_is_told_of(priced: Tenant, acme_client: APIClient) -> None:
    now = timezone.now()
    with scoping.operator():
        spend_caps.check(tenant=priced, now=now)
    cap(priced, "5.00")
    used(priced, 8, "s1")  # 4.10
    with scoping.operator():
        spend_caps.check(tenant=priced, now=now)
    assert notices_of(priced) == [(80, "spend_cap")]
    used(priced, 2, "s2")  # 5.20: what nobody had leased
    with scoping.operator(), pytest.raises(OverQuota, match=r"The spend cap is 5\.00 EUR a month") as refusal:
        spend_caps.check(tenant=priced, now=now)
    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after > 0
    assert granted(priced) == 0
    assert notices_of(priced) == [(80, "spend_cap"), (100, "spend_cap")]
    shown = acme_client.get(CAP).json()
    assert (shown["amount"], shown["cost"], shown["reached"]) == ("5", "5.2", True)


def test_what_costs_nothing_is_not_bounded_by_money(acme: Account) -> None:
    Price.objects.filter(plan=acme.tenant.plan, meter="predictions").update(amount=0)
    cap(acme.tenant, "0.01")
    assert lease_what_can_be_had(acme.tenant).units == 50


def test_a_cap_over_the_api(acme_client: APIClient, acme: Account) -> None:
    assert acme_client.get(CAP).json()["amount"] is None
    assert acme_client.put(CAP, {"amount": "250.50"}, format="json").json()["own"] == "250.5"
    cap(acme.tenant, "100", "operator")
    shown = acme_client.get(CAP).json()
    assert (shown["amount"], shown["own"], shown["operator"], shown["currency"]) == ("100", "250.5", "100", "EUR")
    assert acme_client.delete(CAP).status_code == 204
    assert acme_client.delete(CAP).status_code == 404
    assert acme_client.get(CAP).json()["amount"] == "100"


@pytest.mark.parametrize("amount", ["-1", "0", "NaN", "Infinity", "1e13", "0.001", "1e-400", "x", None, True, [1], ""])
def test_a_cap_that_is_no_amount_is_refused(amount: Any, acme_client: APIClient) -> None:
    refused = acme_client.put(CAP, {"amount": amount}, format="json")
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == ["amount"]
    assert acme_client.get(CAP).json()["own"] is None


def test_the_operators_cap_by_command(acme: Account, acme_client: APIClient) -> None:
    assert "a cap of 250.00 EUR a month" in run("set_spend_cap", "acme", "250.00")
    assert acme_client.get(CAP).json()["operator"] == "250"
    assert "no cap" in run("set_spend_cap", "acme", "none")
    for wrong in ("nan", "0", "1.999", "much"):
        with pytest.raises(CommandError, match="Expected an amount in EUR above 0"):
            run("set_spend_cap", "acme", wrong)


def test_buckets_of_a_capped_tenant_hold_what_is_leased(priced: Tenant) -> None:
    cap(priced, "6.00")
    lease_what_can_be_had(priced)
    with scoping.operator():
        row = QuotaBucket.objects.for_tenant(priced).get()
    assert row.leased > 0
    assert row.limit > 10**14  # no limit but the money's
