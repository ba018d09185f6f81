"""The periods that quotas are counted over: when each begins and ends, in UTC."""

from datetime import UTC, datetime, timedelta

from tenants.models import Period

ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))


def start_of(period: str, moment: datetime) -> datetime:
    """The beginning of the period that a moment lies in, in UTC."""
    minute = moment.astimezone(UTC).replace(second=0, microsecond=0)
    match period:
        case Period.MINUTE:
            return minute
        case Period.DAY:
            return minute.replace(hour=0, minute=0)
        case Period.MONTH:
            return minute.replace(day=1, hour=0, minute=0)
    return ALWAYS[0]


def end_of(period: str, start: datetime) -> datetime:
    """The first moment after the period that begins at `start`."""
    match period:
        case Period.MINUTE:
            return start + timedelta(minutes=1)
        case Period.DAY:
            return start + timedelta(days=1)
        case Period.MONTH:
            return (start + timedelta(days=32)).replace(day=1)
    return ALWAYS[1]
