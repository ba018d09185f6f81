"""Cells of CSV files: formulas are neutralised, numbers stay numbers."""

from decimal import Decimal

import pytest

from tenants.reports import csv_cells


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1"])
def test_text_that_begins_like_a_formula_is_neutralised(text: str) -> None:
    assert csv_cells.cell(text) == "'" + text


@pytest.mark.parametrize(
    ("value", "cell"),
    [("cats", "cats"), ("", ""), (None, ""), (-3, "-3"), (Decimal("-1.50"), "-1.50"), (Decimal("1E+3"), "1000")],
)
def test_other_values_stay_as_they_are(value: object, cell: str) -> None:
    assert csv_cells.cell(value) == cell
