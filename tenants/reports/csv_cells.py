"""Cells of a CSV file that a spreadsheet opens: text that it would run as a formula is neutralised."""

from decimal import Decimal

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(value: object) -> str:
    """The value as a cell; text that begins like a formula gets an apostrophe before it, as OWASP advises.

    Numbers stay numbers: a negative amount begins with a minus and is no formula.
    """
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    text = str(value)
    if isinstance(value, str) and text.lstrip(" ").startswith(FORMULA):
        return "'" + text
    return text
