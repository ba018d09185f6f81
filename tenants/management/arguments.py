"""What the arguments of the commands are read with."""

from argparse import ArgumentTypeError
from datetime import date

from tenants import pricing


def month(text: str) -> date:
    """A month as 2026-11: its first day."""
    found = pricing.month_of(text)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no month; expected one as 2026-11")
    return found
