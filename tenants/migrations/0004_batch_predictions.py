"""The meter of batch predictions, and its price in the plans that an installation begins with."""

from datetime import date
from decimal import Decimal

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

METER = "batch_predictions"
AMOUNTS = {"standard": Decimal("0.30"), "trial": Decimal(0)}


def add_prices(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """A plan that the operator made gets its price from the operator; until then the meter costs nothing there."""
    plans = apps.get_model("tenants", "Plan").objects.filter(code__in=AMOUNTS)
    for plan in plans:
        apps.get_model("tenants", "Price").objects.get_or_create(
            plan=plan,
            meter=METER,
            valid_from=date(2026, 1, 1),
            defaults={"amount": AMOUNTS[plan.code], "per": Decimal(1000), "unit": "1,000 batch predictions"},
        )


def remove_prices(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("tenants", "Price").objects.filter(plan__in=AMOUNTS, meter=METER).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0003_default_plans"),
    ]

    operations = [
        migrations.AlterField(
            model_name="price",
            name="meter",
            field=models.CharField(
                choices=[
                    ("requests", "Requests"),
                    ("predictions", "Predictions"),
                    ("batch_predictions", "Batch Predictions"),
                    ("compute_ms", "Compute Ms"),
                    ("input_bytes", "Input Bytes"),
                    ("training_seconds", "Training Seconds"),
                    ("stored_byte_hours", "Stored Byte Hours"),
                ],
                max_length=24,
            ),
        ),
        migrations.AlterField(
            model_name="quotabucket",
            name="meter",
            field=models.CharField(
                choices=[
                    ("requests", "Requests"),
                    ("predictions", "Predictions"),
                    ("batch_predictions", "Batch Predictions"),
                    ("compute_ms", "Compute Ms"),
                    ("input_bytes", "Input Bytes"),
                    ("training_seconds", "Training Seconds"),
                    ("stored_byte_hours", "Stored Byte Hours"),
                ],
                max_length=24,
            ),
        ),
        migrations.AlterField(
            model_name="usagehour",
            name="meter",
            field=models.CharField(
                choices=[
                    ("requests", "Requests"),
                    ("predictions", "Predictions"),
                    ("batch_predictions", "Batch Predictions"),
                    ("compute_ms", "Compute Ms"),
                    ("input_bytes", "Input Bytes"),
                    ("training_seconds", "Training Seconds"),
                    ("stored_byte_hours", "Stored Byte Hours"),
                ],
                max_length=24,
            ),
        ),
        migrations.RunPython(add_prices, remove_prices),
    ]
