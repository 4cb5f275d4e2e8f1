"""An index of each day's paths in the order of their hits, so that the most requested are found without all others."""

from django.db import migrations, models
from django.db.models import F


class Migration(migrations.Migration):
    dependencies = [("counters", "0009_imported_log")]

    operations = [
        migrations.AddIndex("dailyhits", models.Index("day", "part", F("hits").desc(), name="dailyhits_leaders")),
    ]
