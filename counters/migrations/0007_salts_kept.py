"""Salts of days that are over can be kept for a while, for hits that are imported later."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("counters", "0006_route")]

    operations = [migrations.AddField("visitorsalt", "until", models.DateField(null=True))]
