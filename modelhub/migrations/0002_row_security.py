"""Row-level security, and versions that never change."""

from django.db import migrations

from tenants.row_security import protect

IMMUTABLE = """
CREATE TRIGGER immutable BEFORE UPDATE ON modelhub_modelversion FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("modelhub", "0001_initial"), ("tenants", "0002_row_security")]

    operations = [
        protect("modelhub_blob"),
        protect("modelhub_blobuse"),
        protect("modelhub_storageaccrual"),
        protect("modelhub_dataset"),
        protect("modelhub_trainingjob"),
        protect("modelhub_traininglogline"),
        protect("modelhub_model"),
        protect("modelhub_modelversion"),
        migrations.RunSQL(IMMUTABLE, "DROP TRIGGER immutable ON modelhub_modelversion"),
    ]
