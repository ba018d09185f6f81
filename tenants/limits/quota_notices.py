"""Notices of quotas: at 80 and at 100 % of a day's or a month's limit its tenant is told, once each.

Written down in the transaction that settles the usage, for webhooks; the owners get a letter after its commit, where
mail is configured.
"""

from collections.abc import Iterable

from tenants import letters, notices
from tenants.models import Period, QuotaBucket

THRESHOLDS = (80, 100)


def tell(buckets: Iterable[QuotaBucket]) -> None:
    """Announces the thresholds that these buckets have come to; the caller saves `warned`."""
    for bucket in buckets:
        if bucket.warned == THRESHOLDS[-1] or bucket.period not in (Period.DAY, Period.MONTH):
            continue
        for threshold in THRESHOLDS:
            if bucket.warned < threshold and bucket.limit and bucket.consumed * 100 >= bucket.limit * threshold:
                bucket.warned = threshold
                _announce(bucket, threshold)


def _announce(bucket: QuotaBucket, threshold: int) -> None:
    new = notices.announce(
        tenant=bucket.tenant_id,
        kind="usage.threshold_reached",
        once=f"{bucket.pk}:{threshold}",
        what="quota",
        percent=threshold,
        scope=bucket.scope,
        meter=bucket.meter,
        period=bucket.period,
        period_start=bucket.period_start.isoformat(),
        limit=bucket.limit,
        used=bucket.consumed,
    )
    if new:
        letters.send_to_owners(
            tenant_id=bucket.tenant_id,
            subject=f"{threshold} % of a quota is used",
            text=f"{bucket.consumed:,} of {bucket.limit:,} {bucket.meter} are used: the limit of {bucket.scope} for "
            f"the {bucket.period} that began at {bucket.period_start:%Y-%m-%d %H:%M} UTC. "
            "When it is used up, predictions are refused with status 429 until it ends.\n",
        )
