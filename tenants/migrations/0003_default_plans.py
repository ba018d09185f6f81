"""The plans that a new installation begins with; the operator changes them in the admin."""

from datetime import date
from decimal import Decimal

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

GB_HOURS = Decimal(10**9)
PLANS = [
    {"code": "standard", "name": "Standard", "predictions_per_minute": 600_000, "predictions_per_month": 500_000_000,
     "stored_bytes": 200 * 10**9},
    {"code": "trial", "name": "Trial", "predictions_per_minute": 600, "predictions_per_month": 10_000,
     "stored_bytes": 5 * 10**9},
]  # fmt: skip
PRICES = [
    ("predictions", Decimal("0.50"), Decimal(1000), "1,000 predictions"),
    ("training_seconds", Decimal("0.90"), Decimal(3600), "training hour"),
    ("stored_byte_hours", Decimal("0.0001"), GB_HOURS, "GB-hour stored"),
]


def add_plans(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    plan_model, price_model = apps.get_model("tenants", "Plan"), apps.get_model("tenants", "Price")
    for values in PLANS:
        plan = plan_model.objects.create(currency="EUR", **values)
        for meter, amount, per, unit in PRICES:
            free = values["code"] == "trial"
            price_model.objects.create(
                plan=plan, meter=meter, valid_from=date(2026, 1, 1), amount=0 if free else amount, per=per, unit=unit
            )


def remove_plans(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    codes = [values["code"] for values in PLANS]
    apps.get_model("tenants", "Price").objects.filter(plan__in=codes).delete()
    apps.get_model("tenants", "Plan").objects.filter(code__in=codes).delete()


class Migration(migrations.Migration):
    dependencies = [("tenants", "0002_row_security")]

    operations = [migrations.RunPython(add_plans, remove_plans)]
