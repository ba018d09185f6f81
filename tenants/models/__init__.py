"""The tables of this app, a module each noun."""

from tenants.models.accounts import Membership, Role, Tenant
from tenants.models.api_keys import ApiKey
from tenants.models.audit import AuditEvent
from tenants.models.billing import Meter, Plan, Price
from tenants.models.idempotency import IdempotentAnswer
from tenants.models.notices import Notice
from tenants.models.quotas import Period, QuotaBucket, QuotaLease
from tenants.models.scoped import TenantOwned
from tenants.models.usage import RejectedSegment, UsageHour, UsageProducer, UsageSegment

__all__ = [
    "ApiKey",
    "AuditEvent",
    "IdempotentAnswer",
    "Membership",
    "Meter",
    "Notice",
    "Period",
    "Plan",
    "Price",
    "QuotaBucket",
    "QuotaLease",
    "RejectedSegment",
    "Role",
    "Tenant",
    "TenantOwned",
    "UsageHour",
    "UsageProducer",
    "UsageSegment",
]
