"""Where a key may be used and for what, when it was last used, and which key it replaces."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

# When a key was last used is nothing that the directory has: written down, it is not announced.
FEED = """
DROP TRIGGER directory_feed ON tenants_apikey;
CREATE TRIGGER directory_feed AFTER INSERT OR DELETE OR UPDATE OF
    tenant_id, digest, scopes, networks, deployments, expires_at, revoked_at ON tenants_apikey
    FOR EACH ROW EXECUTE FUNCTION announce_tenant();
"""
FEED_BEFORE = """
DROP TRIGGER directory_feed ON tenants_apikey;
CREATE TRIGGER directory_feed AFTER INSERT OR UPDATE OR DELETE ON tenants_apikey
    FOR EACH ROW EXECUTE FUNCTION announce_tenant();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0005_notices"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="deployments",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=60),
                blank=True,
                help_text="It may call the deployments of these names only; all if empty.",
                null=True,
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="last_used_at",
            field=models.DateTimeField(blank=True, help_text="To a minute or two.", null=True),
        ),
        migrations.AddField(
            model_name="apikey",
            name="networks",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=49),
                blank=True,
                help_text="It works from these only, as 192.0.2.0/24, 2001:db8::/32; from anywhere if empty.",
                null=True,
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="replaces",
            field=models.OneToOneField(
                blank=True,
                help_text="The key it was rotated from",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="successor",
                to="tenants.apikey",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("networks", []), _negated=True), name="networks_are_some_or_any"
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("deployments", []), _negated=True), name="deployments_are_some_or_all"
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("deployments", None), models.Q(("scopes__contains", ["manage"]), _negated=True), _connector="OR"
                ),
                name="who_manages_calls_all",
            ),
        ),
        migrations.RunSQL(FEED, FEED_BEFORE),
    ]
