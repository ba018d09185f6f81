"""The operators' chain of the audit trail: what they do to plans, prices and one another is recorded, and linked."""

from datetime import date, timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import reverse

from tenants import audit, audit_chain, origin, scoping
from tenants.ledger import producers, usage
from tenants.models import OperatorEvent, Plan, Price, UsageProducer
from tests.conftest import Account
from tests.tenants.months import AUGUST
from tests.tenants.test_producers import silent

pytestmark = pytest.mark.django_db
LATER = f"{date.today() + timedelta(days=30):%Y-%m-%d}"  # noqa: DTZ011
PRICE = {
    "plan": "standard", "meter": "predictions", "valid_from": LATER, "amount": "2", "per": "1000", "model": "per_unit",
    "included": "0", "minimum": "0", "tiers": "[]", "unit": "1,000 predictions",
}  # fmt: skip
NO_PRICES = {"prices-TOTAL_FORMS": "0", "prices-INITIAL_FORMS": "0"}


@pytest.fixture
def operator(acme: Account) -> Client:
    client = Client(REMOTE_ADDR="192.0.2.7")
    client.force_login(User.objects.create_superuser("olga", "olga@example.org", "pass"))
    return client


def url(model: type, page: str, *arguments: str) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)  # type: ignore[attr-defined]


def post(operator: Client, address: str, **form: str) -> None:
    answer = operator.post(address, form)
    assert answer.status_code == 302, answer.content.decode()


def rows() -> list[OperatorEvent]:
    with scoping.operator():
        return list(OperatorEvent.objects.order_by("sequence"))


def fault() -> str:
    with scoping.operator():
        return audit_chain.verify(tenant=None).fault


def test_a_price_leaves_a_row_when_it_is_added_changed_and_removed(operator: Client) -> None:
    post(operator, url(Price, "add"), **PRICE)
    price = Price.objects.get(plan="standard", meter="predictions", amount=2)
    post(operator, url(Price, "change", str(price.pk)), **PRICE | {"amount": "3"})
    post(operator, url(Price, "delete", str(price.pk)), post="yes")
    found = rows()
    assert [row.verb for row in found] == ["price.add", "price.change", "price.remove"]
    assert {(row.actor, row.address) for row in found} == {("operator:olga", "192.0.2.7")}
    assert [row.subject for row in found][:2] == [
        "standard: 2 per 1,000 predictions",
        "standard: 3 per 1,000 predictions",
    ]
    assert [row.detail["values"]["amount"] for row in found] == ["2", "3", "3"]
    assert found[0].detail["values"]["plan_id"] == "standard"
    assert "Amount" in found[1].detail["how"][0]["changed"]["fields"]
    assert [row.sequence for row in found] == [1, 2, 3]
    assert fault() == ""


def test_a_plan_and_an_operator_leave_rows_without_a_password(operator: Client) -> None:
    post(operator, url(Plan, "add"), code="gold", name="Gold", currency="EUR", **NO_PRICES)
    post(
        operator,
        url(User, "add"),
        username="oscar",
        usable_password="true",
        password1="Zebra-9-moon",
        password2="Zebra-9-moon",
    )
    oscar = User.objects.get(username="oscar")
    post(operator, reverse("admin:auth_user_password_change", args=[oscar.pk]), usable_password="true",
         password1="Otter-7-star", password2="Otter-7-star")  # fmt: skip
    post(operator, url(Group, "add"), name="billing")
    assert [(row.verb, row.subject) for row in rows()] == [
        ("plan.add", "Gold"), ("user.add", "oscar"), ("user.change", "oscar"), ("group.add", "billing")
    ]  # fmt: skip
    shown = str([row.detail for row in rows()])
    assert "Zebra" not in shown
    assert "Otter" not in shown
    assert "pbkdf2" not in shown
    assert fault() == ""


def test_a_refused_edit_leaves_none(operator: Client) -> None:
    assert operator.post(url(Price, "add"), PRICE | {"amount": "NaN"}).status_code == 200
    assert rows() == []


def test_a_producer_written_off_leaves_one_though_it_held_no_leases() -> None:
    usage.open_producer(producer="dead", now=AUGUST)
    silent("dead")
    producers.write_off(producer="dead", reason="the disk is lost", actor="operator:olga")
    assert UsageProducer.objects.get(pk="dead").written_off_by == "operator:olga"
    (row,) = rows()
    assert (row.verb, row.subject, row.detail["reason"]) == ("usage_producer.write_off", "dead", "the disk is lost")


def record(subject: str) -> None:
    with origin.set_to(origin.Origin(user_agent="curl", address="192.0.2.1")), scoping.operator():
        audit.record_of_operators(actor="operator:olga", verb="plan.change", subject=subject, name="Ärger \u2028 '\"")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenants_operatorevent SET actor = 'nobody'",
        "UPDATE tenants_operatorevent SET sequence = sequence + 100",
        "DELETE FROM tenants_operatorevent",
    ],
)
def test_rows_are_only_added(statement: str) -> None:
    record("gold")
    with (
        pytest.raises(DatabaseError, match="never changed"), transaction.atomic(), scoping.operator(),
        connection.cursor() as cursor,
    ):  # fmt: skip
        cursor.execute(statement)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE tenants_operatorevent SET actor = 'nobody' WHERE sequence = 2", "number 2,"),
        ("DELETE FROM tenants_operatorevent WHERE sequence = 2", "number 2 was removed"),
        ("DELETE FROM tenants_operatorevent WHERE sequence = 3", "number 3 and what follows"),
        ("DELETE FROM tenants_operatorevent", "number 1 and what follows"),
        ("UPDATE tenants_operatorhead SET hash = repeat('0', 64)", "head was changed"),
        ("DELETE FROM tenants_operatorhead", "head of the chain was removed"),
    ],
)
def test_tampering_is_found(statement: str, said: str) -> None:
    for subject in ("gold", "silver", "bronze"):
        record(subject)
    assert fault() == ""
    with scoping.operator(), connection.cursor() as cursor:
        # What a superuser would do by switching the triggers off.
        cursor.execute("ALTER TABLE tenants_operatorevent DISABLE TRIGGER append_only")
        cursor.execute(statement)
        cursor.execute("ALTER TABLE tenants_operatorevent ENABLE TRIGGER append_only")
    assert said in fault()


def test_no_tenant_sees_the_operators_rows(acme: Account) -> None:
    record("gold")
    with scoping.tenant(acme.tenant.pk):
        assert not OperatorEvent.objects.exists()
    with pytest.raises(DatabaseError, match="row-level security"), scoping.tenant(acme.tenant.pk):
        audit.record_of_operators(actor="key:x", verb="plan.change", subject="gold")


def test_the_command_follows_the_operators_chain(capsys: pytest.CaptureFixture[str]) -> None:
    record("gold")
    call_command("verify_audit")
    assert "the operators: 1 rows, ending in " in capsys.readouterr().out
