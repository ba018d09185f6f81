"""Where a training job is taken up, what it begins with, and whether cancelling it keeps the best so far."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("modelhub", "0004_searches_and_evaluations"),
    ]

    operations = [
        migrations.AddField(
            model_name="trainingjob",
            name="checkpoint",
            field=models.JSONField(
                default=dict,
                help_text="where another trainer takes it up: sha256, size, epochs done, attempt that wrote it",
            ),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="keep_best",
            field=models.BooleanField(default=False, help_text="Whether cancelling it publishes the best so far."),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="warm_start",
            field=models.ForeignKey(
                help_text="The version whose weights it begins with.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="modelhub.modelversion",
            ),
        ),
    ]
