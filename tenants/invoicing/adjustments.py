"""Adjustments: what closed months cost by all usage that has arrived since, less what was billed for them.

Billed for a month is every line for it, on whichever invoice that is not void: so a second late batch is set against
the first adjustment, and what a void invoice billed is billed anew. A credit note lowers no line, so what it gave is
not billed again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal

from django.db import connection
from django.db.models import Sum

from tenants import pricing
from tenants.invoicing import invoice_lines, quantities
from tenants.models import ClosedMonth, InvoiceLine, InvoiceState, Tenant
from tenants.pricing import plan_history

# Segments with events of an earlier month than that in which they arrived; the index is partial to those. One that
# arrived shortly before its month was closed may have been committed after it: such a month is looked at in vain.
LATE = """
SELECT DISTINCT closed.month FROM (
    SELECT month, min(closed_at) AS closed_at FROM tenants_closedmonth WHERE tenant_id = ANY(%s) GROUP BY month
) AS closed
JOIN tenants_usagesegment AS segment ON segment.arrived_at > closed.closed_at - interval '2 hours'
    AND segment.first_event_at < (closed.month + interval '1 month') AT TIME ZONE 'UTC'
    AND segment.last_event_at >= closed.month::timestamp AT TIME ZONE 'UTC'
WHERE date_trunc('month', segment.first_event_at AT TIME ZONE 'UTC')
    < date_trunc('month', segment.arrived_at AT TIME ZONE 'UTC')
"""


def of(*, tenants: Sequence[Tenant]) -> dict[str, list[InvoiceLine]]:
    """The adjustments of each tenant, one line for a month; a few queries for all of them. Needs a scope that sees
    their rows.
    """
    found: dict[str, list[InvoiceLine]] = {}
    by_id = {tenant.pk: tenant for tenant in tenants}
    for month, concerned in sorted(_concerned(list(by_id)).items()):
        chosen = [by_id[tenant] for tenant in sorted(concerned)]
        corrected, billed = _corrected(chosen, month), _billed(chosen, month)
        for tenant in chosen:
            now, before = corrected[tenant.pk], billed.get(tenant.pk, Decimal(0))
            if now != before:
                line = invoice_lines.adjustment(
                    month=month, corrected=now, billed=pricing.total([before], tenant.plan.currency)
                )
                found.setdefault(tenant.pk, []).append(line)
    return found


def _concerned(tenants: Sequence[str]) -> dict[date, set[str]]:
    """The closed months that may have to be adjusted, each with whose it is: late usage, or a void invoice."""
    found: dict[date, set[str]] = {}
    if not tenants:
        return found
    with connection.cursor() as cursor:
        cursor.execute(LATE, [list(tenants)])
        late = [month for (month,) in cursor.fetchall()]
    closed = ClosedMonth.across_tenants.filter(tenant__in=tenants, month__in=late).values_list("month", "tenant_id")
    void = InvoiceLine.across_tenants.filter(tenant__in=tenants, invoice__state=InvoiceState.VOID)
    for month, tenant in [*closed, *void.values_list("month", "tenant_id").distinct()]:
        found.setdefault(month, set()).add(tenant)
    return found


def _corrected(tenants: Sequence[Tenant], month: date) -> dict[str, Decimal]:
    terms = plan_history.terms(tenants=tenants, month=month)
    used = quantities.of(terms)
    found = {}
    for tenant in tenants:
        lines = pricing.rate(quantities=used.get(tenant.pk, {}), terms=terms[tenant.pk])
        found[tenant.pk] = pricing.total([line.amount for line in lines], terms[tenant.pk].currency)
    return found


def _billed(tenants: Iterable[Tenant], month: date) -> Mapping[str, Decimal]:
    lines = InvoiceLine.across_tenants.filter(tenant__in=[tenant.pk for tenant in tenants], month=month)
    alive = lines.exclude(invoice__state=InvoiceState.VOID)
    return dict(alive.values_list("tenant_id").annotate(total=Sum("amount")).order_by())
