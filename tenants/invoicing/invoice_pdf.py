"""An invoice to print: who issues it, for whom, its lines, what is due, and the tax line of the operator's settings."""

import os
from decimal import Decimal
from functools import cache
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

import reportlab
from django.conf import settings
from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from tenants.invoicing.billing import Bill
from tenants.models import InvoiceLine, InvoiceState, Meter

FONT, BOLD = "invoice", "invoice-bold"
TITLES = {InvoiceState.DRAFT: "Draft of an invoice", InvoiceState.VOID: "Invoice (void)"}
# What a quantity is counted in, where its meter's name does not say it.
UNITS: dict[str, str] = {
    Meter.TRAINING_SECONDS: "s",
    Meter.COMPUTE_MS: "ms",
    Meter.INPUT_BYTES: "bytes",
    Meter.STORED_BYTE_HOURS: "byte-hours",
}
WIDTHS = [86 * mm, 30 * mm, 34 * mm, 24 * mm]


def render(*, bill: Bill) -> bytes:
    """The PDF; of the same bill always the same bytes."""
    _use_fonts()
    out = BytesIO()
    document = SimpleDocTemplate(
        out, pagesize=A4, leftMargin=18 * mm, rightMargin=18 * mm, topMargin=18 * mm, bottomMargin=18 * mm,
        title=f"{_title(bill)} {bill.id}", author=_issuer(bill)["name"], invariant=1,
    )  # fmt: skip
    document.build([*_head(bill), Spacer(1, 8 * mm), _lines(bill), Spacer(1, 6 * mm), *_foot(bill)])
    return out.getvalue()


@cache
def _use_fonts() -> None:
    """The fonts that reportlab brings know western letters; `INVOICE_FONT` names a TrueType file that knows others."""
    folder = os.path.join(os.path.dirname(reportlab.__file__), "fonts")
    pdfmetrics.registerFont(TTFont(FONT, settings.INVOICE_FONT or os.path.join(folder, "Vera.ttf")))
    pdfmetrics.registerFont(TTFont(BOLD, settings.INVOICE_FONT or os.path.join(folder, "VeraBd.ttf")))


def _text(text: str, *, bold: bool = False, size: int = 9, right: bool = False) -> Any:
    """A paragraph; what is in the text is never read as markup."""
    style = ParagraphStyle(
        "text",
        fontName=BOLD if bold else FONT,
        fontSize=size,
        leading=size * 1.35,
        **({"alignment": TA_RIGHT} if right else {}),
    )
    return Paragraph(escape(text).replace("\n", "<br/>"), style)


def _title(bill: Bill) -> str:
    return TITLES.get(InvoiceState(bill.invoice.state), "Invoice")


def _issuer(bill: Bill) -> dict[str, str]:
    """An issued invoice says what was set when it was issued, a draft what is set now."""
    kept: dict[str, str] = bill.invoice.issuer or settings.INVOICE_ISSUER
    return kept


def _head(bill: Bill) -> list[Any]:
    invoice, issuer = bill.invoice, _issuer(bill)
    facts = [f"For {invoice.tenant.name} ({invoice.tenant_id})", f"Month {invoice.month:%Y-%m} (UTC)"]
    if invoice.issued_at:
        facts.append(f"Issued on {invoice.issued_at:%Y-%m-%d}")
    if invoice.paid_at:
        facts.append(f"Paid on {invoice.paid_at:%Y-%m-%d}")
    if invoice.voided_at:
        facts.append(f"Void since {invoice.voided_at:%Y-%m-%d}: {invoice.void_reason}")
    vat = [f"VAT number {issuer['vat_number']}"] if issuer["vat_number"] else []
    sender = "\n".join(part for part in (issuer["address"], *vat) if part)
    return [
        _text(issuer["name"], bold=True, size=12),
        _text(sender),
        Spacer(1, 10 * mm),
        _text(f"{_title(bill)} {bill.id}", bold=True, size=16),
        Spacer(1, 3 * mm),
        _text("\n".join(facts)),
    ]


def _lines(bill: Bill) -> Table:
    rows = [
        [_text("What", bold=True), *(_text(name, bold=True, right=True) for name in ("Quantity", "Price", "Amount"))]
    ]
    for line in bill.lines:
        price, quantity = _price(line), f"{_number(line.quantity)} {UNITS.get(line.meter, '')}".strip()
        rows.append(
            [_text(line.description), *(_text(part, right=True) for part in (quantity, price, f"{line.amount:,f}"))]
        )
    if not bill.lines:
        rows.append([_text("Nothing that has a price was used."), "", "", ""])
    table = Table(rows, colWidths=WIDTHS, repeatRows=1)
    table.setStyle(
        TableStyle([
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEBELOW", (0, 0), (-1, 0), 0.8, colors.black),
            ("LINEBELOW", (0, 1), (-1, -1), 0.2, colors.grey),
        ])
    )  # fmt: skip
    return table


def _price(line: InvoiceLine) -> str:
    """In words; tiers are listed one below the other."""
    if line.tiers:
        return "\n".join([*map(_tier, line.tiers), f"per {line.unit}"])
    return f"{_number(line.unit_price)} per {line.unit}"


def _tier(tier: dict[str, str | None]) -> str:
    amount = _number(Decimal(tier["amount"] or 0))
    return f"{amount} above" if tier["up_to"] is None else f"{amount} up to {_number(Decimal(tier['up_to']))}"


def _number(value: Decimal) -> str:
    return f"{value.normalize():,f}"


def _foot(bill: Bill) -> list[Any]:
    invoice, money = bill.invoice, bill.invoice.currency
    sums = [("Total", invoice.total)]
    sums += [("Credit used" if invoice.credit_used > 0 else "Credit given", -invoice.credit_used)] * bool(
        invoice.credit_used
    )
    sums += [("Credit notes", -invoice.credited)] * bool(invoice.credited)
    sums += [("Paid", -invoice.paid)] * bool(invoice.paid)
    sums.append(("Due", invoice.due))
    rows = [
        [_text(name, right=True, bold=name == "Due"), _text(f"{amount:,f} {money}", right=True, bold=name == "Due")]
        for name, amount in sums
    ]
    notes = [
        f"Credit note {note.number} of {note.at:%Y-%m-%d}: {note.amount:,f} {money}, {note.reason}"
        for note in bill.notes
    ]
    under = "\n".join(part for part in (_issuer(bill)["tax_line"], *notes) if part)
    return [Table(rows, colWidths=[126 * mm, 48 * mm]), Spacer(1, 6 * mm), _text(under)]
