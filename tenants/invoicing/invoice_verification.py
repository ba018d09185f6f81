"""The proof of an invoice: its lines derived again from the archived segments, and compared with what was billed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from django.db.models import Q, Sum

from tenants import pricing, scoping
from tenants.errors import NotFound
from tenants.invoicing import billing, invoice_lines, quantities
from tenants.ledger import verification
from tenants.ledger.verification import Evidence
from tenants.models import Invoice, InvoiceLine, InvoiceState, LineKind
from tenants.pricing import plan_history


@dataclass(slots=True)
class Verdict:
    """What was found about an invoice; `wrong` names each difference and is empty where it is proven."""

    invoice: Invoice
    evidence: Evidence
    wrong: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not self.wrong


def verify(*, number: str) -> Verdict:
    """Derives an invoice again, by the terms that it keeps, from what had arrived when it was issued."""
    with scoping.operator():
        invoice = Invoice.across_tenants.select_related("tenant__plan").filter(number=number).first()
        if invoice is None:
            raise NotFound(f"There is no invoice {number[:40]!r}.")
        lines = list(InvoiceLine.across_tenants.filter(invoice=invoice).order_by("position"))
    evidence = verification.quantities_from_archive(
        tenant=invoice.tenant,
        start=pricing.month_start(invoice.month),
        end=pricing.month_end(invoice.month),
        until=invoice.issued_at,
    )
    found = Verdict(invoice, evidence, [*evidence.damaged, *map(str, evidence.differences)])
    found.wrong += _rollup(invoice, evidence)
    found.wrong += _own_lines(invoice, lines, evidence)
    for line in lines:
        if line.kind == LineKind.ADJUSTMENT:
            found.wrong += _adjustment(invoice, line)
    if invoice.total != sum((line.amount for line in lines), Decimal(0)):
        found.wrong.append(f"the total {invoice.total:f} is not the sum of the lines")
    return found


def _rollup(invoice: Invoice, evidence: Evidence) -> list[str]:
    rows = [(*one, quantity) for one, quantity in evidence.archived.items()]
    derived = quantities.rollup_sha256(rows)
    if derived == invoice.rollup_sha256:
        return []
    return [f"the hourly sums had the sha256 {invoice.rollup_sha256} when it was issued; by the archive, {derived}"]


def _own_lines(invoice: Invoice, lines: Sequence[InvoiceLine], evidence: Evidence) -> list[str]:
    derived = billing.derive(invoice=invoice, quantities=verification.hourly(evidence.archived))
    billed = [line for line in lines if line.kind != LineKind.ADJUSTMENT]
    wanted = {_what(line): line for line in derived}
    had = {_what(line): line for line in billed}
    wrong = []
    for what in sorted({*wanted, *had}):
        a, b = wanted.get(what), had.get(what)
        if _said(a) != _said(b):
            wrong.append(f"{what[1]}: billed {_said(b)}, by the archive {_said(a)}")
    return wrong


def _what(line: InvoiceLine) -> tuple[int, str]:
    return line.price_id or 0, line.description


def _said(line: InvoiceLine | None) -> str:
    return "nothing" if line is None else f"{line.amount.normalize():f} for {line.quantity.normalize():f} {line.unit}"


def _adjustment(invoice: Invoice, line: InvoiceLine) -> list[str]:
    """What the earlier month costs by all that had arrived by then, less what had been billed for it by then."""
    with scoping.operator():
        terms = plan_history.terms(tenants=[invoice.tenant], month=line.month)[invoice.tenant_id]
        earlier = Q(invoice__issued_at__lt=invoice.issued_at) | Q(invoice__number__lt=invoice.number)
        alive = ~Q(invoice__state=InvoiceState.VOID) | Q(invoice__voided_at__gt=invoice.issued_at)
        before = InvoiceLine.across_tenants.filter(earlier, alive, tenant=invoice.tenant, month=line.month)
        billed = before.exclude(invoice=invoice).aggregate(total=Sum("amount"))["total"] or Decimal(0)
    evidence = verification.quantities_from_archive(
        tenant=invoice.tenant, start=terms.start, end=terms.end, until=invoice.issued_at
    )
    derived = invoice_lines.lines(terms=terms, quantities=verification.hourly(evidence.archived))
    corrected = pricing.total([one.amount for one in derived], terms.currency)
    wrong = [*evidence.damaged, *map(str, evidence.differences)]
    if corrected - billed != line.amount:
        wrong.append(
            f"adjustment of {line.month:%Y-%m}: billed {line.amount:f}; by the archive the month costs {corrected:f}, "
            f"and {billed:f} had been billed for it"
        )
    return wrong
