"""Months and their hours, in UTC: what bills are made for."""

from datetime import UTC, date, datetime, timedelta

HOUR = timedelta(hours=1)


def month_of(text: str) -> date | None:
    """The first day of the month written as `2026-11`; none if the text is no month."""
    year, dash, month = text.partition("-")
    if not (dash and len(year) == 4 and len(month) == 2 and text.isascii() and (year + month).isdigit()):
        return None
    return date(int(year), int(month), 1) if 1 <= int(month) <= 12 and int(year) >= 1 else None


def month_after(month: date) -> date:
    """The first day of the next month."""
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def month_start(month: date) -> datetime:
    """The month's first moment."""
    return midnight(month.replace(day=1))


def month_end(month: date) -> datetime:
    """The first moment after the month."""
    return midnight(month_after(month))


def midnight(day: date) -> datetime:
    """The day's first moment."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def next_hour(moment: datetime) -> datetime:
    """The full hour at a moment, or else the next one."""
    begun = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return begun if begun == moment else begun + HOUR


def hours_between(start: datetime, end: datetime) -> int:
    """How many hours lie between two full hours; none if the end comes first."""
    return max(0, (end - start) // HOUR)
