"""The unique keys of hours and days begin with the tenant: another index of it only slowed down each row that came."""

from django.db import migrations, models
from django.db.models.deletion import PROTECT


def _without_index() -> "models.ForeignKey[models.Model]":
    return models.ForeignKey("tenants.tenant", on_delete=PROTECT, related_name="+", editable=False, db_index=False)


class Migration(migrations.Migration):
    dependencies = [("tenants", "0014_plural_names")]

    operations = [migrations.AlterField(model, "tenant", _without_index()) for model in ("usagehour", "usageday")]
