"""Reports over all tenants: revenue, the top tenants, what is unpaid, and what was billed against compute.

A month of a tenant that has an issued invoice is what that says. One that has none yet is rated from the rollup by the
prices of its plan, as its draft is. All of this needs the operator's scope.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from decimal import Decimal
from typing import NamedTuple

from django.db.models import Sum

from tenants import pricing
from tenants.errors import FieldError, Invalid
from tenants.invoicing import drafted_totals
from tenants.models import ClosedMonth, CreditNote, Invoice, InvoiceState, Meter, Plan, Tenant, UsageMonth
from tenants.reports.report_tables import Table

MOST_MONTHS = 36
HOUR_SECONDS = 3600
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class IssuedTotal:
    """What one tenant was billed for one month; a void invoice is none. `due` is what is still to be paid."""

    tenant_id: str
    month: date
    plan: str
    currency: str
    amount: Decimal
    number: str
    issued_on: date
    due: Decimal


class Billed(NamedTuple):
    """A month of a tenant in money: `draft` where it is not issued."""

    tenant_id: str
    month: date
    plan: str
    currency: str
    amount: Decimal
    draft: bool


def issued_totals(*, start: date, end: date) -> list[IssuedTotal]:
    """What has been invoiced for the months from `start` until before `end`, less what credit notes took off."""
    rows = Invoice.across_tenants.filter(month__gte=start, month__lt=end).exclude(state=InvoiceState.VOID)
    noted = CreditNote.across_tenants.filter(invoice__in=rows).values_list("invoice").annotate(Sum("amount"))
    credited = dict(noted.order_by())
    return [
        IssuedTotal(
            tenant_id=row.tenant_id,
            month=row.month,
            plan=row.terms["plans"][-1][0],
            currency=row.currency,
            amount=pricing.in_coins(row.total - credited.get(row.pk, ZERO), row.currency),
            number=row.number,
            issued_on=row.issued_at.astimezone(UTC).date(),
            due=pricing.in_coins(row.due, row.currency),
        )
        for row in rows
    ]


KINDS = {
    "revenue": "Revenue by month and plan",
    "tenants": "Top tenants",
    "unpaid": "Unpaid invoices",
    "compute": "Billed against compute",
}


def report(*, kind: str, months: Sequence[date], today: date) -> Table:
    """One of KINDS over some months that follow each other; of `unpaid`, those whose month is among them."""
    issued = issued_totals(start=months[0], end=pricing.month_after(months[-1]))
    match kind:
        case "revenue":
            return revenue(months=months, issued=issued)
        case "tenants":
            return top_tenants(months=months, issued=issued)
        case "compute":
            return compute(months=months, issued=issued)
        case "unpaid":
            return unpaid(issued=issued, today=today)
    raise ValueError(f"{kind!r} is no report; expected one of {', '.join(KINDS)}")


def months_between(first: date, last: date) -> list[date]:
    """The months from the first to the last, both included; raises Invalid if that are none, or too many."""
    if last < first:
        raise _refused("to", f"Expected a month from {first:%Y-%m} on; got {last:%Y-%m}.")
    found = [first]
    while found[-1] < last and len(found) <= MOST_MONTHS:
        found.append(pricing.month_after(found[-1]))
    if len(found) > MOST_MONTHS:
        raise _refused("to", f"A report spans {MOST_MONTHS} months at most; got {first:%Y-%m} to {last:%Y-%m}.")
    return found


def billed(*, months: Sequence[date], issued: Iterable[IssuedTotal]) -> list[Billed]:
    """Every tenant's months in money, those in which nothing was used left out."""
    found = [Billed(one.tenant_id, one.month, one.plan, one.currency, one.amount, draft=False) for one in issued]
    plans = dict(Tenant.objects.values_list("pk", "plan_id"))
    currencies = dict(Plan.objects.values_list("pk", "currency"))
    closed: dict[date, set[str]] = defaultdict(set)
    for one in found:
        closed[one.month].add(one.tenant_id)
    for tenant, month in ClosedMonth.across_tenants.filter(month__in=months).values_list("tenant_id", "month"):
        closed[month].add(tenant)
    for month in months:
        for tenant, amount in drafted_totals.of(month=month, without=closed[month]).items():
            plan = plans[tenant]
            found.append(Billed(tenant, month, plan, currencies[plan], amount, True))
    return found


def revenue(*, months: Sequence[date], issued: Iterable[IssuedTotal]) -> Table:
    """By month and plan: what was invoiced, and what the drafts come to by now."""
    sums: dict[tuple[str, str, str], list[Decimal]] = {}
    tenants: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    written: dict[date, str] = {}
    for tenant, month, plan, currency, amount, draft in billed(months=months, issued=issued):
        named = written.get(month)
        if named is None:
            named = written[month] = f"{month:%Y-%m}"
        key = (named, plan, currency)
        if key not in sums:
            sums[key] = [ZERO, ZERO]
        sums[key][draft] += amount
        tenants[key].add(tenant)
    in_all: dict[str, list[Decimal]] = {}
    for (_, _, currency), (invoiced, drafted) in sums.items():
        column = in_all.setdefault(currency, [ZERO, ZERO])
        column[0] += invoiced
        column[1] += drafted
    return Table(
        columns=("month", "plan", "currency", "tenants", "issued", "draft", "total"),
        rows=[(*key, len(tenants[key]), *sums[key], sum(sums[key], ZERO)) for key in sorted(sums)],
        totals=[("total", "", of, None, *in_all[of], sum(in_all[of], ZERO)) for of in sorted(in_all)],
    )


def top_tenants(*, months: Sequence[date], issued: Iterable[IssuedTotal], count: int = 50) -> Table:
    """Those who were billed most over the months, in each currency, with the predictions and compute that they used."""
    amounts: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for one in billed(months=months, issued=issued):
        amounts[one.currency, one.tenant_id] += one.amount
    ranked: list[tuple[str, str, Decimal]] = []
    for currency in sorted({currency for currency, _ in amounts}):
        same = [(tenant, amount) for (of, tenant), amount in amounts.items() if of == currency]
        same.sort(key=lambda one: (-one[1], one[0]))
        ranked += [(currency, *one) for one in same[:count]]
    shown = Tenant.objects.in_bulk([tenant for _, tenant, _ in ranked])
    used = _used(months)
    rows = []
    for rank, (currency, tenant, amount) in enumerate(ranked, 1):
        meters, row = used[tenant], shown[tenant]
        rows.append((rank, row.name, tenant, row.plan_id, currency, amount, _answers(meters), _seconds(meters)))
    return Table(
        ("rank", "tenant", "id", "plan", "currency", "amount", "predictions", "compute_seconds"), rows,
        [("total", None, None, None, currency, sum((a for c, _, a in ranked if c == currency), ZERO), None, None)
         for currency in sorted({currency for currency, _, _ in ranked})],
    )  # fmt: skip


def unpaid(*, issued: Iterable[IssuedTotal], today: date) -> Table:
    """The invoices of which something is due, the oldest first."""
    owing = sorted((one for one in issued if one.due > 0), key=lambda one: (one.issued_on, one.number))
    names = Tenant.objects.in_bulk({one.tenant_id for one in owing})
    rows = [
        (one.number, names[one.tenant_id].name, f"{one.month:%Y-%m}", one.currency, one.amount, one.due, one.issued_on,
         (today - one.issued_on).days)
        for one in owing
    ]  # fmt: skip
    totals = [
        ("total", "", "", currency, None, sum((one.due for one in owing if one.currency == currency), ZERO), None,
         None)
        for currency in sorted({one.currency for one in owing})
    ]  # fmt: skip
    return Table(("number", "tenant", "month", "currency", "amount", "due", "issued_on", "days"), rows, totals)


def compute(*, months: Sequence[date], issued: Iterable[IssuedTotal]) -> Table:
    """By month and plan: the seconds that were computed, and what was billed for each hour of them."""
    amounts: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for one in billed(months=months, issued=issued):
        amounts[f"{one.month:%Y-%m}", one.plan, one.currency] += one.amount
    currencies = dict(Plan.objects.values_list("pk", "currency"))
    used: dict[tuple[str, str, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    sums = UsageMonth.across_tenants.filter(month__in=months, meter__in=COMPUTE)
    for month, plan, meter, quantity in sums.values_list("month", "tenant__plan_id", "meter", "quantity"):
        used[f"{month:%Y-%m}", plan, currencies[plan]][meter] += quantity
    rows = []
    for key in sorted({*amounts, *used}):
        seconds = _seconds(used[key])
        an_hour = (amounts[key] / seconds * HOUR_SECONDS).quantize(Decimal("0.0001")) if seconds else None
        rows.append((*key, amounts[key], _rounded(used[key].get(Meter.COMPUTE_MS, ZERO) / 1000),
                     _rounded(used[key].get(Meter.TRAINING_SECONDS, ZERO)), an_hour))  # fmt: skip
    return Table(
        ("month", "plan", "currency", "amount", "prediction_seconds", "training_seconds", "amount_per_compute_hour"),
        rows,
    )


COMPUTE = (Meter.COMPUTE_MS.value, Meter.TRAINING_SECONDS.value)
ANSWERS = (Meter.PREDICTIONS.value, Meter.BATCH_PREDICTIONS.value)


def _used(months: Sequence[date]) -> dict[str, dict[str, Decimal]]:
    found: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    rows = UsageMonth.across_tenants.filter(month__in=months, meter__in=(*COMPUTE, *ANSWERS))
    for tenant, meter, quantity in rows.values_list("tenant_id", "meter", "quantity"):
        found[tenant][meter] += quantity
    return found


def _seconds(meters: dict[str, Decimal]) -> Decimal:
    return _rounded(meters.get(Meter.COMPUTE_MS, ZERO) / 1000 + meters.get(Meter.TRAINING_SECONDS, ZERO))


def _answers(meters: dict[str, Decimal]) -> int:
    return int(sum((meters.get(meter, ZERO) for meter in ANSWERS), ZERO))


def _rounded(seconds: Decimal) -> Decimal:
    return seconds.quantize(Decimal("0.001"))


def _refused(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", errors=(FieldError(field, message),))
