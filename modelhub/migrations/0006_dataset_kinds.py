"""Kinds of data sets beyond pictures, how they are divided, and what a table's columns are."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("modelhub", "0005_checkpoints"),
    ]

    operations = [
        migrations.AlterField(
            model_name="dataset",
            name="kind",
            field=models.CharField(
                choices=[
                    ("image-classification", "Image Classification"),
                    ("speech", "Speech"),
                    ("text-classification", "Text Classification"),
                    ("translation", "Translation"),
                    ("table", "Table"),
                ],
                max_length=32,
            ),
        ),
        migrations.AddField(
            model_name="dataset",
            name="split",
            field=models.JSONField(default=dict, help_text="how it is to be divided: by, validation, seed, column"),
        ),
        migrations.AddField(
            model_name="dataset",
            name="columns",
            field=models.JSONField(default=dict, help_text="the types of a table's columns that were given, by name"),
        ),
    ]
