"""Row-level security, and the directory's feed of deployments."""

from django.db import migrations

from tenants.row_security import protect

FEED = """
CREATE TRIGGER directory_feed AFTER INSERT OR UPDATE OR DELETE ON inference_deployment
    FOR EACH ROW EXECUTE FUNCTION announce_tenant();
"""


class Migration(migrations.Migration):
    dependencies = [("inference", "0001_initial"), ("tenants", "0002_row_security")]

    operations = [
        protect("inference_deployment"),
        migrations.RunSQL(FEED, "DROP TRIGGER directory_feed ON inference_deployment"),
    ]
