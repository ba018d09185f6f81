"""The most that a training job may cost, and why one made less than was asked for."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("modelhub", "0002_row_security"),
    ]

    operations = [
        migrations.AddField(
            model_name="trainingjob",
            name="budget",
            field=models.DecimalField(
                decimal_places=12, help_text="The most that it may cost.", max_digits=38, null=True
            ),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="budget_currency",
            field=models.CharField(blank=True, max_length=3),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="stop_reason",
            field=models.TextField(blank=True, help_text="Why it made less than was asked for, for the customer."),
        ),
        migrations.AlterField(
            model_name="trainingjob",
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
            model_name="trainingjob",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("budget", None), ("budget_currency", "")),
                    models.Q(
                        ("budget__gt", 0), ("budget__isnull", False), models.Q(("budget_currency", ""), _negated=True)
                    ),
                    _connector="OR",
                ),
                name="job_budget_is_money",
            ),
        ),
    ]
