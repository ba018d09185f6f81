"""Versions of data sets, uploads in parts, retention, provenance, data keys. What there was is first in its family."""

import functools

import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
from django.db import migrations, models

import tenants.ids
from tenants.row_security import protect

FILL = """
SELECT set_config('app.operator', 'on', true);
UPDATE modelhub_dataset SET family = id WHERE family = '';
SELECT set_config('app.operator', '', true);
"""
# What a sealed version holds never changes; it may be erased, and what is said about it may be put right.
SEALED = """
CREATE TRIGGER sealed_content BEFORE UPDATE ON modelhub_dataset FOR EACH ROW
WHEN (OLD.state IN ('sealed', 'erased') AND (
    NEW.state NOT IN (OLD.state, 'erased')
    OR (NEW.kind, NEW.name, NEW.family, NEW.number, NEW.parent, NEW.manifest_sha256, NEW.items, NEW.size, NEW.sealed_at)
    IS DISTINCT FROM
    (OLD.kind, OLD.name, OLD.family, OLD.number, OLD.parent, OLD.manifest_sha256, OLD.items, OLD.size, OLD.sealed_at)
)) EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("modelhub", "0006_dataset_kinds"),
        ("tenants", "0013_training_limits"),
    ]

    operations = [
        migrations.CreateModel(
            name="DatasetUpload",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(tenants.ids.new, "upl"),
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("completed", "Completed"),
                            ("rejected", "Rejected"),
                            ("aborted", "Aborted"),
                            ("expired", "Expired"),
                        ],
                        default="open",
                        max_length=16,
                    ),
                ),
                (
                    "mode",
                    models.CharField(choices=[("replace", "Replace"), ("add", "Add")], default="replace", max_length=8),
                ),
                ("media_type", models.CharField(max_length=80)),
                ("length", models.PositiveBigIntegerField(help_text="bytes of the whole")),
                (
                    "sha256",
                    models.CharField(
                        blank=True, help_text="of the whole, as announced; empty if it was not", max_length=64
                    ),
                ),
                (
                    "checked_until",
                    models.DateTimeField(
                        help_text="A check that is under way has told of itself till then.", null=True
                    ),
                ),
                ("created_by", models.CharField(max_length=120)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("expires_at", models.DateTimeField(help_text="when it is forgotten if no other part comes")),
                ("ended_at", models.DateTimeField(null=True)),
            ],
            options={
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="DatasetUploadPart",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("size", models.PositiveBigIntegerField()),
                ("sha256", models.CharField(max_length=64)),
                ("received_at", models.DateTimeField()),
            ],
            options={
                "abstract": False,
                "base_manager_name": "across_tenants",
                "default_manager_name": "across_tenants",
            },
            managers=[
                ("across_tenants", django.db.models.manager.Manager()),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="dataset",
            name="one_dataset_a_name",
        ),
        migrations.AddField(
            model_name="dataset",
            name="erased_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="dataset",
            name="family",
            field=models.CharField(blank=True, editable=False, help_text="id of its first version", max_length=32),
        ),
        migrations.AddField(
            model_name="dataset",
            name="latest",
            field=models.PositiveIntegerField(default=1, help_text="the newest number that its family has given"),
        ),
        migrations.AddField(
            model_name="dataset",
            name="licence",
            field=models.CharField(blank=True, help_text="under which the data may be used", max_length=100),
        ),
        migrations.AddField(
            model_name="dataset",
            name="notes",
            field=models.TextField(blank=True, max_length=4000),
        ),
        migrations.AddField(
            model_name="dataset",
            name="number",
            field=models.PositiveIntegerField(
                default=1, help_text="of the version, in the order in which they were begun"
            ),
        ),
        migrations.AddField(
            model_name="dataset",
            name="parent",
            field=models.CharField(blank=True, help_text="id of the version that it came from", max_length=32),
        ),
        migrations.AddField(
            model_name="dataset",
            name="retain_until",
            field=models.DateTimeField(help_text="when its content is erased", null=True),
        ),
        migrations.AddField(
            model_name="dataset",
            name="source",
            field=models.CharField(blank=True, help_text="where the data come from", max_length=500),
        ),
        migrations.AlterField(
            model_name="dataset",
            name="state",
            field=models.CharField(
                choices=[
                    ("created", "Created"),
                    ("uploading", "Uploading"),
                    ("checked", "Checked"),
                    ("rejected", "Rejected"),
                    ("sealed", "Sealed"),
                    ("erased", "Erased"),
                ],
                default="created",
                max_length=16,
            ),
        ),
        migrations.AddIndex(
            model_name="dataset",
            index=models.Index(fields=["tenant", "family"], name="versions_of_a_family"),
        ),
        migrations.AddIndex(
            model_name="dataset",
            index=models.Index(
                condition=models.Q(("erased_at", None)), fields=["retain_until"], name="datasets_to_erase"
            ),
        ),
        migrations.AddConstraint(
            model_name="dataset",
            constraint=models.UniqueConstraint(
                fields=("tenant", "name", "number"), name="one_dataset_a_name_and_number"
            ),
        ),
        migrations.AddConstraint(
            model_name="dataset",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("erased_at", None), models.Q(("state", "erased"), _negated=True)),
                    models.Q(("erased_at__isnull", False), ("state", "erased")),
                    _connector="OR",
                ),
                name="erased_at_a_time",
            ),
        ),
        migrations.AddField(
            model_name="datasetupload",
            name="dataset",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="modelhub.dataset"
            ),
        ),
        migrations.AddField(
            model_name="datasetupload",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="datasetuploadpart",
            name="tenant",
            field=models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.AddField(
            model_name="datasetuploadpart",
            name="upload",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="parts", to="modelhub.datasetupload"
            ),
        ),
        migrations.AddIndex(
            model_name="datasetupload",
            index=models.Index(condition=models.Q(("state", "open")), fields=["expires_at"], name="uploads_to_expire"),
        ),
        migrations.AddConstraint(
            model_name="datasetupload",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_at", None), ("state", "open")),
                    models.Q(("ended_at__isnull", False), models.Q(("state", "open"), _negated=True)),
                    _connector="OR",
                ),
                name="upload_ended_at_a_time",
            ),
        ),
        migrations.AddConstraint(
            model_name="datasetuploadpart",
            constraint=models.UniqueConstraint(fields=("upload", "number"), name="one_part_a_number"),
        ),
        migrations.CreateModel(
            name="DataKey",
            fields=[
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="tenants.tenant",
                    ),
                ),
                ("wrapped", models.BinaryField(max_length=80)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("destroyed_at", models.DateTimeField(null=True)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(destroyed_at=None) & ~models.Q(wrapped=b"")
                        | models.Q(destroyed_at__isnull=False, wrapped=b""),
                        name="key_until_it_is_destroyed",
                    )
                ]
            },
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.RunSQL(SEALED, "DROP TRIGGER sealed_content ON modelhub_dataset"),
        protect("modelhub_datakey"),
        protect("modelhub_datasetupload"),
        protect("modelhub_datasetuploadpart"),
    ]
