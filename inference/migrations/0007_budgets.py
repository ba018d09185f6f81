"""The most that a batch prediction may cost, and why one answered less than all rows."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0006_statistics"),
        ("modelhub", "0002_row_security"),
    ]

    operations = [
        migrations.AddField(
            model_name="batchprediction",
            name="budget",
            field=models.DecimalField(
                decimal_places=12, help_text="The most that it may cost.", max_digits=38, null=True
            ),
        ),
        migrations.AddField(
            model_name="batchprediction",
            name="budget_currency",
            field=models.CharField(blank=True, max_length=3),
        ),
        migrations.AddField(
            model_name="batchprediction",
            name="stop_reason",
            field=models.TextField(blank=True, help_text="Why it answered less than all rows, for the customer."),
        ),
        migrations.AlterField(
            model_name="batchprediction",
            name="state",
            field=models.CharField(
                choices=[
                    ("queued", "Queued"),
                    ("running", "Running"),
                    ("succeeded", "Succeeded"),
                    ("failed", "Failed"),
                    ("cancelled", "Cancelled"),
                    ("stopped", "Stopped"),
                ],
                default="queued",
                max_length=16,
            ),
        ),
        migrations.AddConstraint(
            model_name="batchprediction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("budget", None), ("budget_currency", "")),
                    models.Q(
                        ("budget__gt", 0), ("budget__isnull", False), models.Q(("budget_currency", ""), _negated=True)
                    ),
                    _connector="OR",
                ),
                name="batch_budget_is_money",
            ),
        ),
    ]
