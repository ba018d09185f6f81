"""The operator's pages: every table can be read, and changed by verbs only."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import accounts, audit, scoping
from tenants.invoicing import credit, invoices
from tenants.ledger import producers, usage
from tenants.limits import quota_limits, quotas, spend_caps
from tenants.models import (
    ApiKey,
    AuditEvent,
    AuditHead,
    ClosedMonth,
    CreditEntry,
    CreditNote,
    IdempotentAnswer,
    Invoice,
    InvoiceLine,
    Membership,
    Notice,
    NumberSeries,
    OperatorEvent,
    OperatorHead,
    Plan,
    PlanChange,
    Price,
    QuotaBucket,
    QuotaLease,
    QuotaLimit,
    RejectedSegment,
    SpendCap,
    Tenant,
    UsageDay,
    UsageHour,
    UsageMonth,
    UsageProducer,
    UsageSegment,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)  # fmt: skip
from tests.conftest import Account
from tests.tenants.months import ACTOR, AUGUST, close, invoice, opened, used
from tests.tenants.test_audit import link_now
from tests.tenants.test_usage import an_event
from tests.test_permissions import a_delivery

TABLES: list[type[Any]] = [
    ApiKey, AuditEvent, AuditHead, ClosedMonth, CreditEntry, CreditNote, IdempotentAnswer, Invoice, InvoiceLine,
    Membership, Notice, NumberSeries, OperatorEvent, OperatorHead, Plan, PlanChange, Price, QuotaBucket, QuotaLease,
    QuotaLimit, RejectedSegment, SpendCap, Tenant, UsageDay, UsageHour, UsageMonth, UsageProducer, UsageSegment,
    WebhookAttempt, WebhookDelivery, WebhookEndpoint,
]  # fmt: skip
READ_ONLY: list[type[Any]] = [
    AuditEvent, AuditHead, ClosedMonth, CreditNote, IdempotentAnswer, Invoice, InvoiceLine, Notice, NumberSeries,
    OperatorEvent, OperatorHead, PlanChange, QuotaBucket, QuotaLease, RejectedSegment, UsageDay, UsageHour, UsageMonth,
    UsageSegment, WebhookAttempt, WebhookDelivery, WebhookEndpoint,
]  # fmt: skip


@pytest.fixture
def operator(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root@site.example", password="correct-horse-battery"))
    return client


@pytest.fixture
def busy(acme: Account, globex: Account) -> Account:
    """A row in every table."""
    now = timezone.now()
    with scoping.operator():
        quota_limits.put(
            tenant=acme.tenant, scope="tenant", meter="predictions", period="day", limit=9, set_by="tenant",
            actor="test", now=now,
        )  # fmt: skip
        spend_caps.put(tenant=acme.tenant, amount="1000", set_by="tenant", actor="test")
    ask = quotas.Ask("tenant", "predictions", "month", wanted=9, minimum=9)
    quotas.lease(tenant_id=acme.tenant.pk, producer="p1", asks=[ask])
    event = an_event(acme.tenant.pk, at_ms=int(timezone.now().timestamp() * 1000))
    usage.take_segment(segment_id="p1/1", producer="p1", data=usage.encode(event), watermark=timezone.now())
    producers.rejected(segment_id="p1/2", producer="p1", host="h", path="/p1/2.rejected", reason="no event")
    client = APIClient()
    client.credentials(HTTP_X_API_KEY=acme.key)
    client.post("/api/v1/api-keys", {"name": "n", "scopes": ["read"]}, format="json", HTTP_IDEMPOTENCY_KEY="one")
    an_invoice(acme)
    with scoping.operator():
        a_delivery(acme)
        audit.record_of_operators(actor=ACTOR, verb="plan.change", subject="Standard")
    link_now()
    return acme


def an_invoice(account: Account) -> Any:
    """Of August, 5.00, with a credit note of 1.00; the tenant has been on another plan for a moment since."""
    tenant = opened(account)
    used(tenant, AUGUST, predictions=10_000)
    close(AUGUST, tenant=tenant)
    row = invoice(tenant, AUGUST)
    now = timezone.now()
    with scoping.operator():
        credit.grant(tenant=tenant, amount=5, currency="EUR", expires_at=None, reason="trial", actor=ACTOR, now=now)
        invoices.give_credit_note(invoice=row, amount=1, reason="sorry", actor=ACTOR, now=now)
        for code in ("trial", "standard"):
            accounts.change_plan(tenant=tenant, plan=Plan.objects.get(code=code), actor=ACTOR, now=now)
    return row


def url(table: type[Any], page: str, *arguments: str) -> str:
    return reverse(f"admin:{table._meta.app_label}_{table._meta.model_name}_{page}", args=arguments)


def a_row(table: type[Any]) -> Any:
    with scoping.operator():
        return table._default_manager.order_by("pk").first()


def test_every_table_of_the_app_has_pages() -> None:
    registered = {model for model in admin.site._registry if model._meta.app_label == "tenants"}
    assert registered == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_lists_and_pages_show_the_rows(table: type[Any], operator: Client, busy: Account) -> None:
    row = a_row(table)
    listed = operator.get(url(table, "changelist"))
    assert listed.status_code == 200
    assert f"/{quote(str(row.pk))}/change/" in listed.content.decode()
    assert operator.get(url(table, "changelist"), {"q": "acme"}).status_code == 200
    assert operator.get(url(table, "change", row.pk)).status_code == 200
    assert operator.get(url(table, "history", row.pk)).status_code == 200


@pytest.mark.parametrize("table", READ_ONLY)
def test_what_is_read_only_refuses_every_change(table: type[Any], operator: Client, busy: Account) -> None:
    row = a_row(table)
    with scoping.operator():
        before = list(table._default_manager.order_by("pk").values())
    for page in (url(table, "add"), url(table, "change", row.pk), url(table, "delete", row.pk)):
        assert operator.post(page, {"post": "yes", "quantity": "1", "units": "0"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    operator.post(url(table, "changelist"), action)
    with scoping.operator():
        assert list(table._default_manager.order_by("pk").values()) == before


def test_customers_are_no_operators(acme: Account) -> None:
    client = Client()
    client.force_login(acme.members["owner"])
    for page in (url(Tenant, "changelist"), reverse("admin:tenants_tenant_month", args=[acme.tenant.pk, "2026-11"])):
        assert client.get(page).status_code == 302  # to the login


def test_a_tenant_is_opened_with_its_audit_row(operator: Client) -> None:
    assert operator.post(url(Tenant, "add"), {"name": "initech", "plan": "standard"}).status_code == 302
    with scoping.operator():
        tenant = Tenant.objects.get(name="initech")
        event = AuditEvent.objects.for_tenant(tenant).get(verb="tenant.create")
    assert event.actor == "operator:root@site.example"


@pytest.mark.parametrize("name", ["acme", "Bad Name", ""])
def test_an_unusable_name_of_a_tenant_is_shown_as_an_error(name: str, operator: Client, acme: Account) -> None:
    shown = operator.post(url(Tenant, "add"), {"name": name, "plan": "standard"}, follow=True)
    assert shown.status_code == 200
    assert "error" in shown.content.decode()
    with scoping.operator():
        assert Tenant.objects.count() == 1


def test_only_the_plan_of_a_tenant_is_edited_in_its_form(operator: Client, acme: Account) -> None:
    posted = {"name": "stolen", "active": "", "id": "ten_x", "plan": "trial"}
    assert operator.post(url(Tenant, "change", acme.tenant.pk), posted).status_code == 302
    with scoping.operator():
        tenant = Tenant.objects.get(pk=acme.tenant.pk)
        assert (tenant.name, tenant.active, tenant.plan_id) == ("acme", True, "trial")
        event = AuditEvent.objects.for_tenant(tenant).get(verb="tenant.change_plan")
    assert event.detail == {"before": "standard", "after": "trial"}
    assert operator.post(url(Tenant, "delete", acme.tenant.pk), {"post": "yes"}).status_code == 403


def test_a_suspended_tenant_is_refused_until_it_is_activated(operator: Client, acme: Account) -> None:
    producers.rejected(segment_id="p1/2", producer="p1", host="h", path="/p1/2.rejected", reason="no event")
    client = APIClient()
    client.credentials(HTTP_X_API_KEY=acme.key)
    for action, status in (("suspend", 401), ("activate", 200)):
        operator.post(url(Tenant, "changelist"), {"action": action, "_selected_action": [acme.tenant.pk]})
        assert client.get("/api/v1/me").status_code == status


def test_a_key_made_here_is_shown_once(operator: Client, acme: Account) -> None:
    wanted = {"tenant": acme.tenant.pk, "name": "ops", "scopes": ["read"], "expires_at_0": "", "expires_at_1": ""}
    shown = operator.post(url(ApiKey, "add"), wanted, follow=True).content.decode()
    text = next(word.rstrip(":") for word in shown.split() if word.startswith("aiaas_local_"))
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=text).status_code == 200
    assert text not in operator.get(url(ApiKey, "changelist")).content.decode()


def test_keys_are_revoked_by_an_action_and_edited_by_nothing(operator: Client, acme: Account) -> None:
    row = a_row(ApiKey)
    assert operator.post(url(ApiKey, "change", row.pk), {"name": "x", "scopes": ["read"]}).status_code == 403
    assert operator.post(url(ApiKey, "delete", row.pk), {"post": "yes"}).status_code == 403
    operator.post(url(ApiKey, "changelist"), {"action": "revoke", "_selected_action": [row.pk]})
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=acme.key).status_code == 401


def test_keys_are_bound_in_the_form_and_what_binds_to_nothing_is_refused(operator: Client, acme: Account) -> None:
    form = {"tenant": acme.tenant.pk, "name": "ops", "scopes": ["read"], "networks": "192.0.2.0/24, ::1"}
    assert operator.post(url(ApiKey, "add"), form).status_code == 302
    with scoping.operator():
        row = ApiKey.objects.for_tenant(acme.tenant).get(name="ops")
    assert (row.networks, row.deployments) == (["192.0.2.0/24", "::1/128"], None)
    assert "192.0.2.0/24" in operator.get(url(ApiKey, "change", row.pk)).content.decode()
    for wrong, words in (({"networks": "office"}, "no network"), ({"deployments": "cats"}, "no deployment")):
        shown = operator.post(url(ApiKey, "add"), form | {"name": "bad"} | wrong, follow=True).content.decode()
        assert words in shown
    with scoping.operator():
        assert not ApiKey.objects.for_tenant(acme.tenant).filter(name="bad").exists()


@pytest.mark.parametrize(("action", "status"), [("rotate", 200), ("rotate_now", 401)])
def test_keys_are_rotated_by_actions_that_show_the_new_one(
    action: str, status: int, operator: Client, acme: Account
) -> None:
    row = a_row(ApiKey)
    chosen = {"action": action, "_selected_action": [row.pk]}
    shown = operator.post(url(ApiKey, "changelist"), chosen, follow=True).content.decode()
    text = next(word.rstrip(":") for word in shown.split() if word.startswith("aiaas_local_") and len(word) > 40)
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=text).status_code == 200
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=acme.key).status_code == status
    again = operator.post(url(ApiKey, "changelist"), chosen, follow=True).content.decode()
    assert "was rotated already" in again or "is revoked" in again
    assert operator.get(url(ApiKey, "change", row.pk)).status_code == 200


def test_a_key_is_revoked_as_leaked_and_its_owner_told(operator: Client, acme: Account) -> None:
    row = a_row(ApiKey)
    operator.post(url(ApiKey, "changelist"), {"action": "revoke_as_leaked", "_selected_action": [row.pk]})
    assert APIClient().get("/api/v1/me", HTTP_X_API_KEY=acme.key).status_code == 401
    with scoping.operator():
        assert Notice.across_tenants.get(kind="api_key.leaked").once == row.pk
        event = AuditEvent.across_tenants.get(verb="api_key.leak")
    assert event.actor == "operator:root@site.example"


def test_members_are_added_changed_and_removed_with_audit_rows(operator: Client, acme: Account) -> None:
    user = User.objects.create_user("new@acme.example")
    operator.post(url(Membership, "add"), {"tenant": acme.tenant.pk, "user": user.pk, "role": "billing"})
    with scoping.operator():
        row = Membership.objects.get(user=user)
    operator.post(url(Membership, "change", row.pk), {"role": "developer"})
    operator.post(url(Membership, "delete", row.pk), {"post": "yes"})
    with scoping.operator():
        assert not Membership.objects.filter(user=user).exists()
        events = AuditEvent.objects.for_tenant(acme.tenant).filter(subject="new@acme.example").order_by("id")
        assert [event.verb for event in events] == ["member.add", "member.add", "member.remove"]


def test_a_months_bill_and_usage_are_on_a_page(operator: Client, busy: Account) -> None:
    page = reverse("admin:tenants_tenant_month", args=[busy.tenant.pk, f"{timezone.now():%Y-%m}"])
    assert page in operator.get(url(Tenant, "change", busy.tenant.pk)).content.decode()
    shown = operator.get(page).content.decode()
    assert "Predictions" in shown
    assert "input_bytes" in shown
    for wrong in ("2020-01", "2026-13", "x"):
        missing = reverse("admin:tenants_tenant_month", args=[busy.tenant.pk, wrong])
        assert operator.get(missing).status_code == 404


# Invoices


def act(operator: Client, row: Invoice, **said: str) -> str:
    done = operator.post(reverse("admin:tenants_invoice_act", args=[row.pk]), said, follow=True)
    return done.content.decode()


def test_an_invoice_is_paid_credited_and_refused_on_its_page(operator: Client, busy: Account) -> None:
    row = invoice(busy.tenant, AUGUST)
    shown = operator.get(url(Invoice, "change", row.pk)).content.decode()
    assert "Predictions" in shown
    assert "has a credit note" in act(operator, row, verb="void", reason="wrong")
    assert "CRN-2026-000002: 0.50 EUR" in act(operator, row, verb="credit", amount="0.50", reason="more")
    assert "Expected an amount above 0" in act(operator, row, verb="credit", amount="NaN", reason="more")
    assert "is paid" in act(operator, row, verb="pay", payment="transfer")
    assert (invoice(busy.tenant, AUGUST).state, invoice(busy.tenant, AUGUST).paid) == ("paid", Decimal("3.5"))
    assert operator.post(reverse("admin:tenants_invoice_act", args=[row.pk]), {"verb": "frame"}).status_code == 404
    assert operator.get(reverse("admin:tenants_invoice_act", args=[row.pk])).status_code == 403


def test_an_invoice_is_voided_on_its_page(operator: Client, acme: Account) -> None:
    tenant = opened(acme)
    used(tenant, AUGUST, predictions=10_000)
    close(AUGUST)
    assert "is void" in act(operator, invoice(tenant, AUGUST), verb="void", reason="wrong")
    assert invoice(tenant, AUGUST).state == "void"


def test_invoices_are_paid_by_an_action_and_printed(operator: Client, busy: Account) -> None:
    row = invoice(busy.tenant, AUGUST)
    for kind, begins in (("pdf", b"%PDF-"), ("csv", b"invoice,")):
        assert operator.get(reverse("admin:tenants_invoice_file", args=[row.pk, kind])).content.startswith(begins)
    assert operator.get(reverse("admin:tenants_invoice_file", args=[row.pk, "exe"])).status_code == 404
    operator.post(url(Invoice, "changelist"), {"action": "pay", "_selected_action": [row.pk]})
    assert invoice(busy.tenant, AUGUST).state == "paid"


def test_who_may_only_look_pays_nothing(busy: Account) -> None:
    clerk = User.objects.create_user("clerk@site.example", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_invoice"))
    client, row = Client(), invoice(busy.tenant, AUGUST)
    client.force_login(clerk)
    assert client.get(url(Invoice, "change", row.pk)).status_code == 200
    assert client.post(reverse("admin:tenants_invoice_act", args=[row.pk]), {"verb": "pay"}).status_code == 403
    client.post(url(Invoice, "changelist"), {"action": "pay", "_selected_action": [row.pk]})
    assert invoice(busy.tenant, AUGUST).state == "issued"


def test_a_month_is_closed_on_its_page_once_it_has_ended(operator: Client, acme: Account) -> None:
    tenant = opened(acme)
    used(tenant, AUGUST, predictions=10_000)
    page = reverse("admin:tenants_tenant_month", args=[tenant.pk, "2026-08"])
    assert "Close this month" in operator.get(page).content.decode()
    assert "is closed" in operator.post(page, follow=True).content.decode()
    shown = operator.get(page).content.decode()
    assert "INV-" in shown
    assert "Close this month" not in shown
    running = reverse("admin:tenants_tenant_month", args=[tenant.pk, f"{timezone.now():%Y-%m}"])
    assert "Close this month" not in operator.get(running).content.decode()
    assert "a month is closed after its end" in operator.post(running, follow=True).content.decode()


def test_credit_is_given_here(operator: Client, acme: Account) -> None:
    wanted = {"tenant": acme.tenant.pk, "amount": "25", "currency": "EUR", "expires_at_0": "2027-01-31",
              "expires_at_1": "00:00:00", "reason": "trial"}  # fmt: skip
    assert operator.post(url(CreditEntry, "add"), wanted).status_code == 302
    row = a_row(CreditEntry)
    assert (row.kind, row.amount, row.actor) == ("grant", 25, "operator:root@site.example")
    assert (
        "Expected EUR"
        in operator.post(url(CreditEntry, "add"), wanted | {"currency": "USD"}, follow=True).content.decode()
    )
    assert operator.post(url(CreditEntry, "change", row.pk), wanted).status_code == 403


# Prices


def price_form(**values: str) -> dict[str, str]:
    form = {"plan": "standard", "meter": "predictions", "valid_from": "2026-01-02", "amount": "2", "per": "1000"}
    form |= {"model": "per_unit", "included": "0", "minimum": "0", "tiers": "[]"}
    return form | {"unit": "1,000 predictions"} | values


def test_a_price_with_tiers_is_held_to_them(operator: Client, begun: Price) -> None:
    later = f"{date.today() + timedelta(days=30):%Y-%m-%d}"  # noqa: DTZ011
    form = price_form(valid_from=later, model="graduated")
    for tiers, said in (
        ("[]", "at least one tier"),
        ('[{"up_to": "5", "amount": "1"}]', "last tier"),
        ('[{"up_to": "5", "amount": "1"}, {"up_to": "4", "amount": "1"}]', "overlap"),
        ('[{"up_to": null, "amount": "NaN"}]', "from 0"),
    ):
        assert said in operator.post(url(Price, "add"), form | {"tiers": tiers}).content.decode()
    good = '[{"from": 0, "up_to": 5, "amount": "1"}, {"up_to": null, "amount": 0.5}]'
    assert operator.post(url(Price, "add"), form | {"tiers": good}).status_code == 302
    row = Price.objects.get(model="graduated")
    assert row.tiers == [{"up_to": "5", "amount": "1"}, {"up_to": None, "amount": "0.5"}]
    fee = price_form(valid_from=later, model="flat", meter="", unit="month")
    assert "got 'predictions'" in operator.post(
        url(Price, "add"), fee | {"meter": "predictions"}
    ).content.decode().replace("&#x27;", "'")
    assert operator.post(url(Price, "add"), fee).status_code == 302


@pytest.fixture
def begun(acme: Account) -> Price:
    return Price.objects.get(plan="standard", meter="predictions")


def test_a_price_that_has_begun_is_not_edited(operator: Client, begun: Price) -> None:
    assert operator.post(url(Price, "change", str(begun.pk)), price_form(amount="9")).status_code == 403
    assert operator.post(url(Price, "delete", str(begun.pk)), {"post": "yes"}).status_code == 403
    assert Price.objects.get(pk=begun.pk).amount == Decimal("0.5")


def test_a_price_that_begins_later_is_added_edited_and_removed(operator: Client, begun: Price) -> None:
    later = f"{date.today() + timedelta(days=30):%Y-%m-%d}"  # noqa: DTZ011
    assert operator.post(url(Price, "add"), price_form(valid_from=later)).status_code == 302
    row = Price.objects.get(plan="standard", meter="predictions", amount=2)
    assert operator.post(url(Price, "change", str(row.pk)), price_form(valid_from=later, amount="3")).status_code == 302
    row.refresh_from_db()
    assert row.amount == 3
    assert operator.post(url(Price, "change", str(row.pk)), price_form(amount="4")).status_code == 200  # back-dated
    row.refresh_from_db()
    assert row.amount == 3
    assert operator.post(url(Price, "delete", str(row.pk)), {"post": "yes"}).status_code == 302


def test_a_price_cannot_be_added_for_days_that_were_billed(operator: Client, begun: Price) -> None:
    shown = operator.post(url(Price, "add"), price_form())
    assert "expected a day after today" in shown.content.decode()
    assert Price.objects.filter(plan="standard", meter="predictions").count() == 1


def test_a_plan_in_use_keeps_its_currency(operator: Client, begun: Price) -> None:
    form = {"name": "Standard", "currency": "USD", "predictions_per_minute": "5", "prices-TOTAL_FORMS": "0",
            "prices-INITIAL_FORMS": "0"}  # fmt: skip
    assert operator.post(url(Plan, "change", "standard"), form).status_code == 302
    plan = Plan.objects.get(pk="standard")
    assert (plan.currency, plan.predictions_per_minute) == ("EUR", 5)
    assert operator.post(url(Plan, "delete", "standard"), {"post": "yes"}).status_code == 403


def test_a_dead_producer_is_written_off_by_saying_why(operator: Client, acme: Account) -> None:
    page = url(UsageProducer, "change", "p1")
    usage.open_producer(producer="p1", now=timezone.now())
    shown = operator.post(page, {"written_off_because": "disk lost", "watermark": "2020-01-01"}, follow=True)
    assert "stop it first" in shown.content.decode()
    UsageProducer.objects.update(seen_at=timezone.now() - timedelta(minutes=1))
    assert operator.post(page, {"written_off_because": "disk lost", "watermark": "2020-01-01"}).status_code == 302
    row = UsageProducer.objects.get()
    assert (row.written_off_by, row.written_off_because) == ("operator:root@site.example", "disk lost")
    assert row.watermark is not None
    assert row.watermark.year > 2020
    assert operator.post(url(UsageProducer, "add"), {"id": "p2"}).status_code == 403


# Webhooks


def test_a_delivery_is_sent_again_by_an_action(operator: Client, busy: Account) -> None:
    row = a_row(WebhookDelivery)
    chosen = {"action": "replay", "_selected_action": [row.pk]}
    assert "is sent again" in operator.post(url(WebhookDelivery, "changelist"), chosen, follow=True).content.decode()
    with scoping.operator():
        assert WebhookDelivery.across_tenants.get(pk=row.pk).state == "pending"
        event = AuditEvent.objects.for_tenant(busy.tenant).get(verb="webhook_delivery.replay")
    assert (event.actor, event.subject) == ("operator:root@site.example", row.pk)
    assert event.request_id.startswith("req_")
    assert "acme is away" in operator.get(url(WebhookDelivery, "change", row.pk)).content.decode()


def test_an_endpoint_is_switched_off_tested_and_on(operator: Client, busy: Account) -> None:
    row = a_row(WebhookEndpoint)

    def act(action: str) -> str:
        chosen = {"action": action, "_selected_action": [row.pk]}
        return operator.post(url(WebhookEndpoint, "changelist"), chosen, follow=True).content.decode()

    assert "A test goes to" in act("ping")
    act("switch_off")
    assert "switched off by its owner" in act("ping")
    act("switch_on")
    with scoping.operator():
        assert WebhookEndpoint.across_tenants.get(pk=row.pk).disabled == ""
        found = AuditEvent.objects.for_tenant(busy.tenant).filter(subject=row.pk).order_by("at")
        assert [event.verb for event in found] == [
            "webhook_endpoint.ping", "webhook_endpoint.change", "webhook_endpoint.change",
        ]  # fmt: skip


def test_a_secret_is_on_no_page(operator: Client, busy: Account) -> None:
    row = a_row(WebhookEndpoint)
    for page in (url(WebhookEndpoint, "changelist"), url(WebhookEndpoint, "change", row.pk)):
        shown = operator.get(page).content.decode()
        assert "whsec" not in shown
        assert "seed" not in shown
