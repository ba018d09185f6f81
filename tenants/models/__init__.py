"""The tables of this app, a module each noun."""

from tenants.models.accounts import Membership, Role, Tenant
from tenants.models.api_keys import ApiKey
from tenants.models.audit import AuditEvent, AuditHead, OperatorEvent, OperatorHead
from tenants.models.billing import TIERED, Meter, Plan, Price, PriceModel
from tenants.models.credit import CreditEntry, CreditKind
from tenants.models.idempotency import IdempotentAnswer
from tenants.models.invoices import ClosedMonth, CreditNote, Invoice, InvoiceLine, InvoiceState, LineKind, NumberSeries
from tenants.models.notices import Notice
from tenants.models.plan_changes import PlanChange
from tenants.models.quotas import Period, QuotaBucket, QuotaLease, QuotaLimit, QuotaMeter, SetBy, SpendCap
from tenants.models.scoped import TenantOwned
from tenants.models.usage import RejectedSegment, UsageDay, UsageHour, UsageMonth, UsageProducer, UsageSegment
from tenants.models.webhooks import DeliveryState, Disabled, WebhookAttempt, WebhookDelivery, WebhookEndpoint

__all__ = [
    "TIERED",
    "ApiKey",
    "AuditEvent",
    "AuditHead",
    "ClosedMonth",
    "CreditEntry",
    "CreditKind",
    "CreditNote",
    "DeliveryState",
    "Disabled",
    "IdempotentAnswer",
    "Invoice",
    "InvoiceLine",
    "InvoiceState",
    "LineKind",
    "Membership",
    "Meter",
    "Notice",
    "NumberSeries",
    "OperatorEvent",
    "OperatorHead",
    "Period",
    "Plan",
    "PlanChange",
    "Price",
    "PriceModel",
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
