"""An invoice for a spreadsheet: one row a line, each cell neutralised."""

import csv
from io import StringIO

from tenants.invoicing.billing import Bill
from tenants.reports import csv_cells

COLUMNS = (
    "invoice", "state", "position", "kind", "month", "plan", "meter", "description", "quantity", "unit", "unit_price",
    "per", "included", "minimum", "hours", "month_hours", "amount", "currency",
)  # fmt: skip


def render(*, bill: Bill) -> str:
    """The lines under a row of names; numbers in full, amounts in whole coins."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    invoice = bill.invoice
    for line in bill.lines:
        numbers = [line.unit_price, line.per, line.included, line.minimum]
        cells = [
            bill.id, invoice.state, line.position, line.kind, f"{line.month:%Y-%m}", line.plan_id, line.meter,
            line.description, line.quantity.normalize(), line.unit, *(number.normalize() for number in numbers),
            line.hours, line.month_hours, line.amount, invoice.currency,
        ]  # fmt: skip
        writer.writerow([csv_cells.cell(value) for value in cells])
    return out.getvalue()
