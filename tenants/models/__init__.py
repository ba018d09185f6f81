"""The tables of this app, a module each noun."""

from tenants.models.accounts import Membership, Role, Tenant
from tenants.models.api_keys import ApiKey
from tenants.models.audit import AuditEvent, AuditHead
from tenants.models.billing import Meter, Plan, Price
from tenants.models.idempotency import IdempotentAnswer
from tenants.models.notices import Notice
from tenants.models.quotas import Period, QuotaBucket, QuotaLease, QuotaLimit, QuotaMeter, SetBy, SpendCap
from tenants.models.scoped import TenantOwned
from tenants.models.usage import RejectedSegment, UsageDay, UsageHour, UsageMonth, UsageProducer, UsageSegment
from tenants.models.webhooks import DeliveryState, Disabled, WebhookAttempt, WebhookDelivery, WebhookEndpoint

__all__ = [
    "ApiKey",
    "AuditEvent",
    "AuditHead",
    "DeliveryState",
    "Disabled",
    "IdempotentAnswer",
    "Membership",
    "Meter",
    "Notice",
    "Period",
    "Plan",
    "Price",
    "QuotaBucket",
    "QuotaLease",
    "QuotaLimit",
    "QuotaMeter",
    "RejectedSegment",
    "Role",
    "SetBy",
    "SpendCap",
    "Tenant",
    "TenantOwned",
    "UsageDay",
    "UsageHour",
    "UsageMonth",
    "UsageProducer",
    "UsageSegment",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
]
